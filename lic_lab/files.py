"""Files are written beside their place and moved into it when they are whole.

So whatever ends it half-way, a full disk or a killed process, what was there before is still there, nobody reads half a
file, and two that write one file don't meet.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ENDING = 16  # bytes of an ending that the file beside keeps: it tells Pillow and matplotlib what to write


def check_output(path: str | Path, *sources: str | Path) -> None:
    """Refuse what can't be written to, before anything is computed.

    Parameters
    ----------
    path : str or Path
        The file to write.
    sources : str or Path
        Files that are read and must not be overwritten, under whatever name.

    Raises
    ------
    ValueError
        When it is one of the sources.
    OSError
        When it is a folder, lies in none, has a name that is too long, or is protected; with what to do.
    """
    target = Path(path)
    if not str(path) or str(path).endswith(os.sep) or target.is_dir():
        what = f"{path} is a folder" if str(path) else "its name is empty"
        raise IsADirectoryError(f"the output has to be a file, and {what}; give a file's name: {target / 'NAME'}")
    try:
        there = os.stat(target)
    except FileNotFoundError:
        there = None
    except NotADirectoryError:
        raise NotADirectoryError(f"{path} can't be written: {target.parent} is a file, no folder") from None
    folder = Path(os.path.realpath(target)).parent
    if not folder.is_dir():
        raise FileNotFoundError(
            f"there is no folder {target.parent} to write {target.name} to; make it first (mkdir -p) or check the path"
        )
    if there is None:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "there is no permission to write to this folder", str(folder))
        return
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "there is no permission to write this file", str(path))
    for source in sources:
        if os.path.exists(source) and os.path.samefile(source, target):
            same = "" if str(source) == str(path) else f", as {source} is the same file"
            raise ValueError(f"the output {path} is the input{same}, which would be lost; give another name")


@contextmanager
def written(path: str | Path, *sources: str | Path) -> Iterator[Path]:
    """Where to write a file: beside `path`, into whose place it is moved when the block ends without an error.

    What is no file, as ``/dev/stdout``, is written to as it is. A link stays one: the file that it leads to is
    replaced. The new file has the old one's permissions.

    Parameters
    ----------
    path, sources
        As of `check_output`.

    Yields
    ------
    Path
        With the ending of `path`.

    Raises
    ------
    ValueError, OSError
        As `check_output`, and whatever goes wrong; an OSError names `path`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written(f"{folder}/a.txt") as new:
    ...         size = new.write_text("whole")
    ...     Path(folder, "a.txt").read_text(), os.listdir(folder)
    ('whole', ['a.txt'])
    """
    check_output(path, *sources)
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".lic_lab-{secrets.token_hex(8)}{_ending(target)}")
    apart = not target.exists() or target.is_file()
    try:
        if not apart:
            yield target
            return
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # as the process's umask has it
        yield beside
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(beside, mode)
        os.replace(beside, target)
    except OSError as error:
        if error.strerror and error.filename in (None, str(beside), beside):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if apart:
            beside.unlink(missing_ok=True)


def _ending(path: Path) -> str:
    return path.suffix if len(os.fsencode(path.suffix)) <= ENDING else ""
