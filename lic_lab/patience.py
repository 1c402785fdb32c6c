"""What takes long says so: on a terminal nobody looks at nothing for more than two seconds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds of silence


@contextmanager
def at_work(what: str, show: bool | None = None, every: float = 0.5) -> Iterator[None]:
    """Show what is going on and for how long, once it has taken `PATIENCE` seconds.

    Parameters
    ----------
    what : str
    show : bool, optional
        By default on a terminal, and not in a log.
    every : float
        Seconds between two looks at the clock.
    """
    done = threading.Event()

    def tick() -> None:
        if show is False or done.wait(PATIENCE):
            return
        from tqdm import tqdm

        with tqdm(
            desc=what, bar_format="{desc}: {elapsed}", leave=False, disable=None if show is None else False
        ) as bar:
            while not done.wait(every):
                bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
