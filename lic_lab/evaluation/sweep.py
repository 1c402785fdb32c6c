"""Codecs x rate points x images, measured one job at a time by whatever runs functions: processes, or a cluster.

    images --walk--> jobs not yet in the store --submit, a bounded number--> executor --rows--> store

A job is a few short texts and its result is one row, so neither the images nor the rows are ever in memory together.
What is in the store is not measured again; so a sweep that ended in the middle, for whatever reason, is resumed by
starting it again.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import platform
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing.process import BaseProcess
from pathlib import Path

import lic_lab
from lic_lab.evaluation.classical import CLASSICAL
from lic_lab.evaluation.coders import Coder, Point, coder
from lic_lab.evaluation.quality import bits_per_pixel, ms_ssim, mse, psnr
from lic_lab.evaluation.results import Row, Store

ATTEMPTS = 3  # times that a job may be there when a process dies, or a pool fail to start, before it is given up
PATIENCE = 30.0  # seconds for a cluster to answer and to have a worker

_alone = threading.Lock()  # a Dask worker may have several threads: seconds and memory shall be one job's


@dataclass(frozen=True)
class Job:
    """One image through one coder.

    Attributes
    ----------
    codec, configuration, digest : str
        See `Coder`.
    image, image_hash : str
        Path, and SHA-256 of the file's bytes.
    attempts : int
        How often the process died that ran it, or that it waited for.
    folder : str
        Where a relative path starts: whoever runs the job may be elsewhere.
    """

    codec: str
    configuration: str
    digest: str
    image: str
    image_hash: str
    attempts: int = 0
    folder: str = ""

    @property
    def path(self) -> str:
        """Where the image is."""
        return os.path.join(self.folder, self.image)

    def failed(self, reason: str) -> Row:
        """The row of the table of errors."""
        return self._columns() | {"reason": _printable(" ".join(reason.split())), "host": platform.node()}

    def _columns(self) -> Row:
        names = ("codec", "configuration", "digest", "image_hash")
        return {name: getattr(self, name) for name in names} | {"image": _printable(self.image)}


def _printable(text: str) -> str:
    """A file's name need not be UTF-8, and then can't be written to a table as it is."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def sweep(
    points: Iterable[Point],
    images: Iterable[str | Path],
    store: Store,
    executor: Callable[[], Executor],
    in_flight: int,
    progress: Callable[[int, int], None] = lambda finished, failed: None,
) -> None:
    """Measure every image at every point, but what the store has.

    An image that can't be measured becomes a row of the store's errors. When a process dies, the pool is opened anew
    and what it had is run again, one job at a time to find the one that kills: after `ATTEMPTS` it is an error too. A
    pool whose processes die before they have a job is no image's fault, and ends the sweep.

    Parameters
    ----------
    points : iterable of Point
        From `lic_lab.evaluation.coders.point`.
    images : iterable of str or Path
        Files. Consumed as they are needed, see `walk`.
    store : Store
    executor : callable
        Opens an executor: ``partial(processes, 4)``, or what `cluster` gives.
    in_flight : int
        Jobs handed out at a time; twice the number of processes keeps them busy.
    progress : callable, optional
        Told how many jobs were finished since the last call, those found in the store included, and how many failed.

    Raises
    ------
    ValueError
        When whoever runs the jobs lacks the codec or has another version of it, its processes can't start, or a
        cluster is lost. Whatever was measured until then is in the store, as it is when the sweep is interrupted.
    """
    todo = _jobs(list(dict.fromkeys(points)), images, store, progress)
    again: deque[Job] = deque()  # those that a dying process took along
    waiting: dict[Future[Row], Job] = {}
    pool = executor()
    try:
        while True:
            alone = bool(again) or any(job.attempts for job in waiting.values())
            while len(waiting) < (1 if alone else in_flight):
                job = again.popleft() if again else next(todo, None)
                if job is None:
                    break
                waiting[_submit(pool, job)] = job
            if not waiting:
                return
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            if any(_broken(future) for future in done):
                done, _ = wait(waiting)  # a broken pool fails everything it has, one after the other
                pool.shutdown()
                pool = _opened(executor)
            rows, retried = _outcome({future: waiting[future] for future in done})
            store.add(rows)
            for future in done:
                del waiting[future]
            again.extend(retried)
            progress(len(rows), sum("reason" in row for row in rows))
    finally:
        for future in waiting:
            future.cancel()
        pool.shutdown()
        store.add(future.result() for future in waiting if not future.cancelled() and not future.exception())


def _opened(executor: Callable[[], Executor]) -> Executor:
    """A pool in which a process has started, so that whatever ends one from here on is the job that it runs."""
    for _ in range(ATTEMPTS):
        pool = executor()
        try:
            pool.submit(os.getpid).result()
            return pool
        except BaseException as error:
            pool.shutdown()
            if not isinstance(error, BrokenExecutor):
                raise
    raise ValueError(
        "the processes end while they start, before they have an image: in a script, run the sweep under "
        '`if __name__ == "__main__":`, and from a file, not from standard input; if the pool is your own, look at its '
        "initializer"
    )


def _jobs(
    points: list[Point], images: Iterable[str | Path], store: Store, progress: Callable[[int, int], None]
) -> Iterator[Job]:
    """What is not in the store yet. All points of an image follow each other, so its file is read from memory."""
    here = os.getcwd()
    for image in images:
        try:
            image_hash = fingerprint(image)
        except OSError as error:
            reason = f"{image} can't be read: {error.strerror}"
            store.add(Job(*point, str(image), "").failed(reason) for point in points)
            progress(len(points), len(points))
            continue
        for point in points:
            if store.has(point.name, point.configuration, point.digest, image_hash):
                progress(1, 0)
            else:
                yield Job(point.name, point.configuration, point.digest, str(image), image_hash, folder=here)


def _submit(pool: Executor, job: Job) -> Future[Row]:
    try:
        return pool.submit(measure, job)
    except BrokenExecutor as error:  # a process died while it had nothing to do
        future: Future[Row] = Future()
        future.set_exception(error)
        return future


def _broken(future: Future[Row]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), BrokenExecutor)


def _outcome(done: dict[Future[Row], Job]) -> tuple[list[Row], list[Job]]:
    """(rows for the store, jobs to run again) of finished futures. `measure` handles what is wrong with an image;
    all else that is raised is wrong with whoever ran it, and ends the sweep.
    """
    rows: list[Row] = []
    retried: list[Job] = []
    for future, job in done.items():
        try:
            rows.append(future.result())
        except BrokenExecutor:
            tried = replace(job, attempts=job.attempts + 1)
            if tried.attempts < ATTEMPTS:
                retried.append(tried)
            else:
                rows.append(job.failed(f"the process that ran it was killed {ATTEMPTS} times: too little memory?"))
        except CancelledError:
            raise ValueError("the cluster gave up (is its scheduler still there?); run this again to go on") from None
        except Exception as error:
            if type(error).__name__ != "KilledWorker":  # Dask's, after it tried on other workers
                raise
            rows.append(job.failed(f"Dask workers that ran it died: too little memory? ({error})"))
    return rows, retried


def measure(job: Job) -> Row:
    """The row of one job, and ``notes`` on how its image was converted; or that of the table of errors with ``reason``.

    Raises
    ------
    ValueError
        When the codec is not the one that the job means: this concerns the installation here, not the image.
    """
    with _alone:
        built, digest = _coder(job.codec, job.configuration)
        if digest != job.digest:
            raise ValueError(
                f"{platform.node()} has {job.codec} {job.configuration} as {digest}, and it should be "
                f"{job.digest}: install the same weights and versions on all machines"
            )
        try:
            return job._columns() | _measured(built, job)
        except Exception as error:
            return job.failed(str(error) or type(error).__name__)


@cache
def _coder(name: str, configuration: str) -> tuple[Coder, str]:
    """The coder of this process and its digest, which may ask a program for its version; a sweep has some dozens."""
    built = coder(name, configuration)
    return built, built.digest


def _measured(built: Coder, job: Job) -> Row:
    import torch

    from lic_lab.image import read, to_uint8

    if fingerprint(job.path) != job.image_hash:
        raise ValueError(f"{job.image} is another file on {platform.node()}, or was changed: run this again")
    picture = read(job.path)
    pixels = to_uint8(picture.x)
    _forget_peak()
    start = time.perf_counter()
    strings = built.encode(pixels)
    encoded = time.perf_counter()
    decoded = built.decode(strings)
    end = time.perf_counter()
    memory = peak_memory()
    return {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "bpp": bits_per_pixel(strings, pixels),
        "psnr": psnr(pixels, decoded),
        "mse": mse(pixels, decoded),
        "ms_ssim": ms_ssim(pixels, decoded),
        "encode_seconds": encoded - start,
        "decode_seconds": end - encoded,
        "threads": 1 if job.codec in CLASSICAL else torch.get_num_threads(),
        "peak_memory_mb": memory / 1e6,
        "host": platform.node(),
        "version": lic_lab.__version__,
        **({"notes": "; ".join(picture.notes)} if picture.notes else {}),
    }


def fingerprint(image: str | Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(image, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _forget_peak() -> None:
    """Make Linux measure the peak from here on; elsewhere it stays that of the process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_memory() -> int:
    """Most bytes that this process had in memory at a time, since `_forget_peak` where there is Linux."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def walk(given: Iterable[str | Path]) -> Iterator[Path]:
    """Files as given, and the images in folders and the folders below them, in the file system's order, one at a time.

    What is hidden (Apple's ``._a.png``, Jupyter's ``.ipynb_checkpoints``) is passed over.

    Raises
    ------
    FileNotFoundError
        For a path that is not there, when it is its turn.
    """
    from PIL import Image

    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    for path in map(Path, given):
        if path.is_dir():
            yield from _inside(path, endings)
        elif path.exists():
            yield path
        else:
            raise FileNotFoundError(f"there is no image or folder {path}; check the path")


def _inside(folder: Path, endings: set[str]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):  # a link could lead round in circles
                yield from _inside(Path(entry), endings)
            elif os.path.splitext(entry.name)[1].lower() in endings:
                yield Path(entry)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processes(workers: int) -> Executor:
    """A pool of fresh processes that share the cores evenly."""
    threads = max(1, cores() // workers)
    context = multiprocessing.get_context("spawn")  # a forked torch hangs when its parent has used threads
    return ProcessPoolExecutor(workers, context, _start, (threads,))


def _start(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a worker at once and without words
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(parent: BaseProcess | None) -> None:
    """Don't outlive a parent that was killed: the pool's workers would wait for work for ever."""
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def cluster(address: str) -> Iterator[Callable[[], Executor]]:
    """What opens executors on the Dask cluster of the scheduler at `address`, ``tcp://host:8786``.

    Its workers need lic_lab, the same weights, and the images under the same paths. Start them with one thread each
    (``dask worker --nthreads 1``): a process runs one job at a time.

    Raises
    ------
    ValueError
        When Dask is not installed, or there is no scheduler or no worker.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("a Dask cluster needs the package distributed: pip install 'lic-lab[cluster]'") from None
    try:
        client = Client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"there is no Dask scheduler at {address} ({error}); start one with `dask scheduler`"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise ValueError(
                f"the scheduler {address} has no worker; start some with `dask worker {address}`"
            ) from None
        yield lambda: client.get_executor(pure=False)  # what failed shall be computed again, not remembered
