"""Memory that the C library keeps between tensors, instead of asking the kernel for it again.

glibc gives large blocks back to the kernel as soon as they are freed, and the kernel clears each page that it hands out
again. A transform at image size allocates some gigabytes in turn: coding a photograph spent a third of its time on
that. Other C libraries are left alone.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # of malloc.h
_KEEPING = {_MMAP_THRESHOLD: 2**31 - 1, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**28}
# Where glibc's own thresholds end up in a program that frees large blocks (DEFAULT_MMAP_THRESHOLD_MAX, and twice it).
_USUAL = {_MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17}
_lock = Lock()
_holders = 0


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def keep() -> None:
    """From now on, keep what tensors free; for a process that does nothing else."""
    glibc = _glibc()
    for option, value in _KEEPING.items() if glibc else ():
        glibc.mallopt(option, value)  # type: ignore[union-attr]


@contextmanager
def kept() -> Iterator[None]:
    """Keep what tensors free, and give all of it back at the end. It may be nested, and used by several threads."""
    global _holders
    with _lock:
        _holders += 1
        keep()
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            glibc = _glibc()
            if glibc and not _holders:
                for option, value in _USUAL.items():
                    glibc.mallopt(option, value)
                glibc.malloc_trim(0)
