"""Where training keeps what it makes: outside of the repository, which 100 MB a checkpoint would swell."""

from __future__ import annotations

import os
from pathlib import Path

from lic_lab import shipped


def cache(name: str) -> Path:
    """The folder `name` of ``LIC_LAB_CACHE``, by default of ``~/.cache/lic_lab``, which is made where it is missing.

    Raises
    ------
    OSError
        When it can't be made.
    """
    folder = (shipped.named("LIC_LAB_CACHE") or Path(os.path.expanduser("~/.cache/lic_lab"))) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"{folder} can't be made ({error.strerror}); set LIC_LAB_CACHE to a folder that can") from None
    return folder


def outside(path: str | Path) -> Path:
    """`path`, which must not lie in lic_lab's git work tree.

    Raises
    ------
    ValueError
        When it does.
    """
    tree = shipped.PACKAGE.parent.resolve()
    if (tree / ".git").exists() and Path(path).resolve().is_relative_to(tree):
        raise ValueError(
            f"{path} lies in the git repository {tree}; checkpoints are kept outside: leave --checkpoint, or set "
            "LIC_LAB_CACHE to a folder for them"
        )
    return Path(path)
