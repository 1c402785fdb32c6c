"""Where the data that come with the package are: weights, and published figures."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parent


def folder(name: str, variable: str) -> Path:
    """A folder of data.

    Parameters
    ----------
    name : str
        Its name in ``data/``.
    variable : str
        Name of an environment variable that says where it is instead.

    Returns
    -------
    Path
        ``data/{name}`` beside the package, as in a checkout; inside it when installed from a wheel.
    """
    if given := named(variable):
        return given
    inside = PACKAGE / "data" / name
    return inside if inside.is_dir() else PACKAGE.parent / "data" / name


def named(variable: str) -> Path | None:
    """The folder that an environment variable names, ``~`` being the user's; None when it is not set or empty."""
    given = os.environ.get(variable)
    return Path(os.path.expanduser(given)) if given else None
