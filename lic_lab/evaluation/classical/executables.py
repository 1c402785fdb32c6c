"""Programs found on the PATH, their versions, and running them.

CompressAI's benchmark has runners for some of the codecs here. They leave the process when a program fails, keep no
stream to decode later, and cut YCbCr off instead of rounding it; so only their options are taken over.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """An encoder and its decoder.

    Attributes
    ----------
    encoder, decoder : tuple of str
        Names that each goes by; the first that is on the PATH is used.
    install : str
        What to do when there is none.
    variable : str
        Environment variable with the path of the encoder's configuration file, if it needs one.
    example : str
        What that file is called in the program's own sources.
    """

    encoder: tuple[str, ...]
    decoder: tuple[str, ...]
    install: str
    variable: str = ""
    example: str = ""

    def missing(self) -> str | None:
        """What is missing and what to do, or None."""
        for names in (self.encoder, self.decoder):
            if not any(map(shutil.which, names)):
                return f"there is no {' or '.join(names)} on the PATH; {self.install}"
        given = os.environ.get(self.variable, "")
        if self.variable and not Path(given).is_file():
            have = f"is {given}, which is no file" if given else "is not set"
            return f"{self.variable} {have}; set it to the path of the encoder's configuration, {self.example}"
        return None

    @property
    def configuration(self) -> Path:
        """The encoder's configuration file."""
        return Path(os.environ[self.variable])

    def version(self) -> str:
        """The line in which the encoder names its version, and a digest of its configuration, which decides as much."""
        found = version_line(self.find(self.encoder))
        if self.variable:
            digest = hashlib.sha256(self.configuration.read_bytes()).hexdigest()
            found += f", {self.configuration.name} {digest[:12]}"
        return found

    def find(self, names: tuple[str, ...]) -> str:
        """Path of the first of the names that is on the PATH."""
        for name in names:
            if path := shutil.which(name):
                return path
        raise ValueError(f"there is no {' or '.join(names)} on the PATH; {self.install}")

    def convert(self, names: tuple[str, ...], data: bytes, *arguments: str) -> bytes:
        """Have a program turn a file with `data` into another.

        Parameters
        ----------
        names : tuple of str
            `encoder` or `decoder`.
        data : bytes
            What the input holds.
        arguments : str
            In these "{in}" and "{out}" stand for two paths without ending, and are to be found once each.

        Raises
        ------
        ValueError
            When the program is not there, fails, or writes no output.
        """
        with tempfile.TemporaryDirectory(prefix="lic_lab_") as folder:
            paths = {"{in}": os.path.join(folder, "in"), "{out}": os.path.join(folder, "out")}
            filled = [re.sub("{in}|{out}", lambda found: paths[found[0]], argument) for argument in arguments]
            source, target = (
                next(Path(new) for new, old in zip(filled, arguments, strict=True) if name in old) for name in paths
            )
            source.write_bytes(data)
            command = [self.find(names), *filled]
            run(command)
            if not target.is_file() or not target.stat().st_size:
                raise ValueError(f"{Path(command[0]).name} wrote nothing, though it did not fail")
            return target.read_bytes()


def run(command: Sequence[str], data: bytes = b"") -> bytes:
    """What a command writes to stdout, given `data` on stdin.

    Raises
    ------
    ValueError
        When it fails; with the last line that it wrote to stderr, or else to stdout.
    """
    done = subprocess.run(command, input=data, capture_output=True)
    if done.returncode:
        said = lines(done.stderr) or lines(done.stdout) or ["it does not say why"]
        raise ValueError(f"{Path(command[0]).name} failed with status {done.returncode}: {said[-1]}")
    return done.stdout


@lru_cache
def version_line(path: str) -> str:
    """The line in which the program at `path` names its version, without those features of the processor it found.

    Most reference software knows no option for it and says it before it complains.
    """
    for option in ("--version", "-h"):
        done = subprocess.run([path, option], capture_output=True, stdin=subprocess.DEVNULL)
        for line in lines(done.stdout) + lines(done.stderr):
            if re.search(r"version\W*\d|\bv\d", line, re.IGNORECASE):
                return re.sub(r"\s*\[[^]]*(SIMD|AVX|SSE|NEON)[^]]*\]", "", line)
    return f"{Path(path).name} of unknown version"


def lines(output: bytes) -> list[str]:
    """Lines of text that are not empty."""
    return [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
