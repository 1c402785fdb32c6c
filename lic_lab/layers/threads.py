"""Pieces of work side by side, each by one thread from beginning to end.

torch's own threads meet after every operation. Between many small ones that costs time, and where other programs want
the cores too, each waits for the one that does not run: two threads are then slower than one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Piece = TypeVar("Piece")


def side_by_side(
    work: Callable[[Piece], object], pieces: Sequence[Piece], device: torch.device, worthwhile: bool = True
) -> None:
    """``work(piece)`` for all pieces, by as many threads as torch has. Each writes to a place of its own.

    Threads take a third of a millisecond to start: `worthwhile` says whether that pays. On a GPU this thread does all.
    """
    threads = torch.get_num_threads()
    if not worthwhile or device.type != "cpu" or min(threads, len(pieces)) < 2:
        for piece in pieces:
            work(piece)
        return
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()  # of this thread, and to be of others

    def worked(piece: Piece) -> None:
        with torch.inference_mode() if inference else torch.set_grad_enabled(grad):
            work(piece)

    try:
        with ThreadPoolExecutor(min(threads, len(pieces)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(worked, pieces))
    finally:
        torch.set_num_threads(threads)  # the number is each thread's own, but new threads begin with the last
