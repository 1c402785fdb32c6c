"""A sweep measures what it says, loses nothing, does nothing twice, and needs no more memory for more images."""

import gc
import hashlib
import json
import multiprocessing
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections import Counter
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skimage.data
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

import lic_lab as lab
from lic_lab import cli
from lic_lab.cli import evaluate
from lic_lab.evaluation import quality, results, sweep
from lic_lab.evaluation.coders import Learned, Point, coder, configurations, parse, point
from lic_lab.evaluation.results import Store
from lic_lab.evaluation.sweep import Job, fingerprint, measure

OF_THE_RUN = {"encode_seconds", "decode_seconds", "threads", "peak_memory_mb", "host"}  # the other columns are facts


class Here(Executor):
    """Runs each job at once, in this process, and counts; `run` stands for `measure`."""

    def __init__(self, run=None):
        self.run, self.jobs = run, []

    def submit(self, function, *arguments):
        future = Future()
        if function is measure:
            self.jobs += arguments
            function = self.run or measure
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder of sixty different photographs, 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("images")
    astronaut = skimage.data.astronaut()
    for i in range(60):
        top, left = 7 * i, 440 - 7 * i
        Image.fromarray(astronaut[top : top + 64, left : left + 64]).save(folder / f"{i:02}.png")
    return folder


@pytest.fixture(scope="module")
def points():
    """Three rate points of JPEG."""
    return [point("jpeg", configuration) for configuration in configurations("jpeg")[2:5]]


@pytest.fixture(scope="module")
def whole(images, points, tmp_path_factory):
    """What the table holds after a sweep that nothing disturbed."""
    with Store(tmp_path_factory.mktemp("whole") / "r.sqlite") as store:
        sweep.sweep(points, sweep.walk([images]), store, Here, 4)
        return facts(store)


def facts(store):
    return [{k: v for k, v in row.items() if k not in OF_THE_RUN} for row in store.rows()]


def job_of(built, path):
    return Job(built.name, built.configuration, built.digest, str(path), fingerprint(path))


# ------------------------------------------------------------------ what a row says


def test_a_row_says_what_the_codec_did(photograph):
    built = coder("jpeg", configurations("jpeg")[3])
    row = measure(job_of(built, photograph))
    pixels = np.asarray(Image.open(photograph))
    strings = built.encode(pixels)
    decoded = built.decode(strings)
    assert set(row) == set(results.COLUMNS)
    assert (row["height"], row["width"]) == pixels.shape[:2]
    assert row["bpp"] == 8 * sum(len(string) for string in strings) / (75 * 101)
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(pixels, decoded), abs=1e-9)
    assert 10 * np.log10(255**2 / row["mse"]) == pytest.approx(row["psnr"], abs=1e-9)
    assert np.isnan(row["ms_ssim"])  # the image is too small for its five scales
    assert row["encode_seconds"] > 0 < row["decode_seconds"]
    assert 10 < row["peak_memory_mb"] < 100_000
    assert row["image_hash"] == hashlib.sha256(photograph.read_bytes()).hexdigest()


def test_a_learned_codec_is_measured_as_lab_codes(untrained_weights, photograph):
    built = Learned("mlic", 2, {"local": "attention"})
    row = measure(job_of(built, photograph))
    codec = lab.load("mlic", 2).swap(local="attention")
    file = lab.encode(codec, photograph)
    pixels = lab.read_image(photograph)
    stream = lab.Bitstream.from_bytes(file)
    decoded = lab.decode(file)
    assert row["configuration"] == "q=2,local=attention"
    assert row["bpp"] == 8 * sum(map(len, stream.strings)) / (75 * 101)  # the strings, without the container
    assert np.array_equal(built.decode(built.encode(np.asarray(Image.open(photograph)))), decoded)
    assert row["psnr"] == pytest.approx(peak_signal_noise_ratio(np.asarray(Image.open(photograph)), decoded), abs=1e-9)
    assert pixels.shape[2:] == decoded.shape[:2]
    with pytest.raises(ValueError, match="how large the image is"):
        built.decode([bytes(string) for string in stream.strings])


def test_a_configuration_names_a_coder(untrained_weights):
    """Two texts are all that travels: they make the same coder again, and one coder has one configuration."""
    for swaps, text in (({}, "q=2"), ({"local": "stacked"}, "q=2,local=stacked"), ({"local": "attention"}, "q=2")):
        built = Learned("mlic+", 2, swaps)
        assert built.configuration == text
        assert coder("mlic+", text).configuration == text
    assert parse("q=2,local=stacked,channel=none") == (2, {"local": "stacked", "channel": "none"})
    assert configurations("mlic+") == ["q=2"]
    for wrong in ("", "q", "local=stacked", "q=high", "q=2,local"):
        with pytest.raises(ValueError, match="q=3,local=stacked"):
            coder("mlic+", wrong)
    with pytest.raises(ValueError, match=r"'jpg'; there are .*jpeg.*, and weights for mlic, mlic\+, shared"):
        configurations("jpg")


def test_other_weights_than_the_sweep_means_are_refused(photograph, points):
    with pytest.raises(ValueError, match="install the same weights and versions"):
        measure(Job(points[0].name, points[0].configuration, "other", str(photograph), fingerprint(photograph)))


# ------------------------------------------------------------------ nothing lost, nothing twice


def test_interrupted_and_resumed_is_the_same_as_at_once(images, points, whole, tmp_path):
    seen = []

    def interrupt(finished, failed):
        seen.append(finished)
        if sum(seen) > 70:
            raise KeyboardInterrupt

    with Store(tmp_path / "r.sqlite") as store, pytest.raises(KeyboardInterrupt):
        sweep.sweep(points, sweep.walk([images]), store, Here, 4, interrupt)
    here, seen = Here(), []
    with Store(tmp_path / "r.sqlite") as store:
        done = len(store)
        assert 70 < done < len(whole)
        sweep.sweep(points, sweep.walk([images]), store, lambda: here, 4, lambda n, failed: seen.append(n))
        assert facts(store) == whole
    assert len(here.jobs) == len(whole) - done
    assert sum(seen) == len(whole)  # what was there counts as done, for the progress bar


def test_a_killed_process_of_the_pool_is_survived(images, points, whole, tmp_path):
    reported = []

    def kill_one(finished, failed):
        reported.append((finished, failed))
        if len(reported) == 5:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    with Store(tmp_path / "r.sqlite") as store:
        sweep.sweep(points, sweep.walk([images]), store, partial(sweep.processes, 2), 4, kill_one)
        assert facts(store) == whole
    assert np.sum(reported, axis=0).tolist() == [len(whole), 0]
    assert not multiprocessing.active_children()


def test_an_image_that_kills_its_process_is_found_and_told(images, points, tmp_path):
    """The others that were in flight with it are measured."""
    pools = []

    class Fragile(Here):
        broken = False

        def submit(self, function, *arguments):
            if self.broken:
                raise BrokenProcessPool
            return super().submit(function, *arguments)

        def __init__(self):
            super().__init__(self.run_fragile)
            pools.append(self)

        def run_fragile(self, job):
            if job.image.endswith("07.png"):
                self.broken = True
                raise BrokenProcessPool
            return measure(job)

    with Store(tmp_path / "r.sqlite") as store:
        sweep.sweep(points[:1], sweep.walk([images]), store, Fragile, 8)
        assert len(store) == 59
        (failed,) = store.errors()
        assert failed["image"].endswith("07.png")
        assert "killed" in failed["reason"]
        assert len(pools) <= 2 * sweep.ATTEMPTS
        assert max(Counter(job.image for pool in pools for job in pool.jobs).values()) <= sweep.ATTEMPTS
    with Store(tmp_path / "all.sqlite") as store:  # all that is in flight kills, so there is no result for long
        sweep.sweep(points, [images / "07.png", images / "08.png"], store, Fragile, len(points))
        assert len(store) == len(list(store.errors())) == len(points)


def test_processes_that_can_not_start_are_no_fault_of_the_images(images, tmp_path):
    """The documented script, without its guard: each process runs it again from standard input, and dies of that."""
    script = f"""
from functools import partial
from lic_lab.evaluation.coders import configurations, point
from lic_lab.evaluation.results import Store
from lic_lab.evaluation.sweep import processes, sweep, walk

with Store({str(tmp_path / "r.sqlite")!r}) as store:
    sweep([point("jpeg", configurations("jpeg")[0])], walk([{str(images)!r}]), store, partial(processes, 1), 2)
"""
    found = subprocess.run([sys.executable, "-"], input=script, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 1
    assert "ValueError: the processes end while they start" in found.stderr
    assert 'if __name__ == "__main__":' in found.stderr.splitlines()[-1]
    with Store(tmp_path / "r.sqlite") as store:
        assert len(store) == len(list(store.errors())) == 0


@pytest.mark.slow
def test_a_killed_worker_of_a_cluster_loses_nothing(images, points, whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    reported = []
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        sweep.cluster(local.scheduler_address) as executor,
        Store(tmp_path / "r.sqlite") as store,
    ):
        workers = local.workers

        def kill_one(finished, failed):
            reported.append((finished, failed))
            if len(reported) == 5:
                os.kill(workers[0].pid, signal.SIGKILL)

        sweep.sweep(points, sweep.walk([images]), store, executor, 16, kill_one)
        assert facts(store) == whole
    assert np.sum(reported, axis=0).tolist() == [len(whole), 0]


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_sweep_and_loses_nothing_that_was_measured(images, points, whole, tmp_path):
    pytest.importorskip("distributed")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{found.getsockname()[1]}"
    environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5"}  # how long a worker looks for it

    def dask(name, *arguments):
        command = [sys.executable, "-m", f"distributed.cli.dask_{name}", *arguments, "--no-dashboard"]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    reported = []
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", address.rpartition(":")[2])
    worker = dask("worker", address, "--nthreads", "1", "--no-nanny")
    try:
        with Store(tmp_path / "r.sqlite") as store:

            def kill_scheduler(finished, failed):
                reported.append((finished, failed))
                if len(reported) == 5:
                    scheduler.kill()

            with (
                pytest.raises(ValueError, match="is its scheduler still there.*run this again to go on"),
                sweep.cluster(address) as executor,
            ):
                sweep.sweep(points, sweep.walk([images]), store, executor, 4, kill_scheduler)
            measured = len(store)
            assert 5 <= measured < len(whole)
            here = Here()
            sweep.sweep(points, sweep.walk([images]), store, lambda: here, 4)
            assert facts(store) == whole
        assert len(here.jobs) == len(whole) - measured
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def test_a_cluster_that_is_not_there_is_told(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(sweep, "PATIENCE", 0.5)
    with (
        pytest.raises(ValueError, match="no Dask scheduler at tcp://127.0.0.1:9"),
        sweep.cluster("tcp://127.0.0.1:9"),
    ):
        pass


# ------------------------------------------------------------------ memory


def traced_peak(run):
    gc.collect()
    tracemalloc.start()
    run()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


def row_of(job):
    return dict.fromkeys(results.COLUMNS, 0.5) | {
        "codec": job.codec,
        "configuration": job.configuration,
        "digest": job.digest,
        "image": job.image,
        "image_hash": job.image_hash,
    }


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, monkeypatch):
    """Twenty thousand jobs: neither they, their futures nor their rows are ever in memory together."""
    count, in_flight = 20_000, 32
    monkeypatch.setattr(sweep, "fingerprint", str)  # there are no files
    alive, most, finished = weakref.WeakSet(), 0, 0

    class Counting(Here):
        def submit(self, function, job):
            nonlocal most
            future = Future()
            future.set_result(row_of(job))
            alive.add(future)
            most = max(most, len(alive))
            return future

    def progress(done, failed):
        nonlocal finished
        finished += done

    def run(images):
        with Store(tmp_path / f"{images}.sqlite") as store:
            names = (f"/a/folder/with/many/images/{i:09}.png" for i in range(images))
            sweep.sweep([Point("fake", "q=1", "digest")], names, store, Counting, in_flight, progress)
            assert len(store) == images

    few, many = traced_peak(lambda: run(1000)), traced_peak(lambda: run(count))
    assert finished == 1000 + count
    assert most <= 2 * in_flight + 1  # those in flight, and those just finished
    assert many < few + 2**18  # twenty thousand rows would be some 20 MB


def test_memory_does_not_grow_with_the_rows_of_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "BATCH", 500)
    sizes, batches = [], results._batches

    def watched(*arguments):
        for batch in batches(*arguments):
            sizes.append(len(batch))
            yield batch

    monkeypatch.setattr(results, "_batches", watched)

    def run(images):
        for ending in ("csv", "parquet"):
            with Store(tmp_path / f"{images}.sqlite") as store:
                store.export(tmp_path / f"{images}.{ending}")
            assert results.means(tmp_path / f"{images}.{ending}").loc[0, "images"] == images

    for images in (1000, 8000):
        with Store(tmp_path / f"{images}.sqlite") as store:
            store.add(row_of(Job("fake", "q=1", "digest", f"{i:09}.png", f"{i}")) for i in range(images))
    run(1000)  # imports
    few, many = traced_peak(lambda: run(1000)), traced_peak(lambda: run(8000))
    assert many < few + 2**19  # the rows would be 8 MB, and pandas leaves some garbage to collect
    assert max(sizes) == 500  # pandas has its texts in memory that is not traced


def test_a_folder_is_walked_one_entry_at_a_time(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in ("1.png", "a/2.JPG", "a/b/3.webp", "a/notes.txt", "4.csv", "._1.png", ".ipynb_checkpoints/1.png"):
        (tmp_path / name).touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)
    found = sorted(str(path.relative_to(tmp_path)) for path in sweep.walk([tmp_path]))
    assert found == ["1.png", "a/2.JPG", "a/b/3.webp"]
    assert list(sweep.walk([tmp_path / "4.csv"])) == [tmp_path / "4.csv"]  # what is named is taken
    taken = []

    class Entries:
        def __init__(self, folder):
            self.entries = os_scandir(folder)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.entries.close()

        def __iter__(self):
            for entry in self.entries:
                taken.append(entry.name)
                yield entry

    os_scandir = os.scandir
    for i in range(100):
        (tmp_path / "a" / "b" / f"{i}.png").touch()
    monkeypatch.setattr(os, "scandir", Entries)
    next(sweep.walk([tmp_path / "a" / "b"]))
    assert len(taken) == 1
    with pytest.raises(FileNotFoundError, match="there is no image or folder"):
        list(sweep.walk([tmp_path / "none"]))


# ------------------------------------------------------------------ what goes wrong with an image


def test_an_image_that_fails_is_told_and_the_others_measured(images, points, tmp_path):
    broken, huge, gone = tmp_path / "broken.png", tmp_path / "huge.png", tmp_path / "gone.png"
    broken.write_text("no image")
    Image.new("1", (5000, 5000)).save(huge)
    given = [broken, images / "00.png", huge, gone, images / "01.png"]
    with Store(tmp_path / "r.sqlite") as store:
        sweep.sweep(points[:1], given, store, Here, 2)
        assert len(store) == 2
        reasons = {Path(row["image"]).name: row["reason"] for row in store.errors()}
    assert "can't be read as an image" in reasons["broken.png"]
    assert "25 megapixels" in reasons["huge.png"]
    assert "No such file" in reasons["gone.png"]
    Image.open(images / "02.png").save(broken)  # repaired, and so no longer an error
    with Store(tmp_path / "r.sqlite") as store:
        sweep.sweep(points[:1], given, store, Here, 2)
        assert len(store) == 3
        assert {Path(row["image"]).name for row in store.errors()} == {"huge.png", "gone.png"}


def test_an_error_that_is_over_is_not_told_again(images, points, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")

    def told(*given):
        with Store(tmp_path / "r.sqlite") as store:
            sweep.sweep(points[:2], given, store, Here, 2)
            return [(image, times) for image, _, times in store.failures(4)]

    assert told(broken, images / "00.png") == told(broken) == [(str(broken), 2)]
    assert told(images / "00.png") == []  # not asked for
    broken.write_bytes((images / "00.png").read_bytes())
    assert told(broken) == []  # now a copy of what is measured


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_a_name_that_is_not_utf8_stops_nothing(images, points, tmp_path):
    good, broken, gone = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9.png", b"bris\xe9.png", b"parti\xe9.png"))
    good.write_bytes((images / "00.png").read_bytes())
    broken.write_text("no image")
    with Store(tmp_path / "r.sqlite") as store:
        here, again = Here(), Here()
        sweep.sweep(points[:1], [good, broken, gone, images / "01.png"], store, lambda: here, 4)
        sweep.sweep(points[:1], [good, broken, gone, images / "01.png"], store, lambda: again, 4)
        assert [job.image for job in again.jobs] == [str(broken)]  # the others are done, or not there
        assert sorted(Path(row["image"]).name for row in store.rows()) == ["01.png", r"caf\udce9.png"]
        assert sorted(Path(row["image"]).name for row in store.errors()) == [r"bris\udce9.png", r"parti\udce9.png"]
        for ending in ("csv", "parquet"):
            store.export(tmp_path / f"r.{ending}")
            assert results.means(tmp_path / f"r.{ending}").loc[0, "images"] == 2


def test_what_is_wrong_with_the_machine_ends_the_sweep(images, points, tmp_path):
    """A million images would all fail for the same reason; and what was measured before is kept."""

    def fail(job):
        if job.image.endswith("30.png"):
            raise ImportError("no module named lic_lab")
        return measure(job)

    with Store(tmp_path / "r.sqlite") as store, pytest.raises(ImportError):
        sweep.sweep(points[:1], [images / f"{i}.png" for i in range(20, 40)], store, partial(Here, fail), 4)
    with Store(tmp_path / "r.sqlite") as store:
        assert len(store) >= 10
        assert not list(store.errors())


# ------------------------------------------------------------------ the table


def test_means_are_those_of_the_images_whatever_the_file(images, points, tmp_path):
    """Against `quality.averages`, which knows no table; and a batch smaller than the table."""
    chosen = [images / f"{i:02}.png" for i in range(5)]
    large = tmp_path / "large.png"
    Image.fromarray(skimage.data.coffee()[:170, :180]).save(large)
    with Store(tmp_path / "r.sqlite") as store, pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "BATCH", 3)
        sweep.sweep(points, [*chosen, large], store, Here, 4)
        sweep.sweep(points[:1], [large], store, Here, 4)
        for ending in ("csv", "parquet"):
            store.export(tmp_path / f"r.{ending}")
        found = [results.means(tmp_path / f"r.{ending}") for ending in ("sqlite", "csv", "parquet")]
        rows = list(store.rows())
    assert list(found[0]) == results.MEANS
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other, check_dtype=False)
    assert found[0]["bpp"].is_monotonic_increasing
    for (_, row), at in zip(found[0].iterrows(), points, strict=True):
        built = coder(at.name, at.configuration)
        pairs = [(x, built.decode(built.encode(x))) for x in (np.asarray(Image.open(p)) for p in [*chosen, large])]
        expected = quality.averages(pairs)
        assert {name: row[name] for name in expected if "ssim" not in name and name != "mse"} == pytest.approx(
            {name: value for name, value in expected.items() if "ssim" not in name and name != "mse"}
        )
        assert np.isnan(row["ms_ssim"])  # five images have none
        assert row["psnr_of_mean_mse"] < row["psnr"]
    exported = pd.read_parquet(tmp_path / "r.parquet")
    assert list(exported) == list(results.COLUMNS)
    assert len(exported) == len(rows) == 18
    (similarity,) = {
        row["ms_ssim"]
        for row in rows
        if row["image"] == str(large) and row["psnr"] == min(row["psnr"] for row in rows if row["image"] == str(large))
    }
    x = np.asarray(Image.open(large))
    built = coder(*points[0][:2])
    assert similarity == pytest.approx(quality.ms_ssim(x, built.decode(built.encode(x))))


def test_the_limits_of_quality_have_means(tmp_path):
    """A picture that came back without loss: infinite PSNR, MS-SSIM 1."""
    row = dict.fromkeys(results.COLUMNS, 1.0) | {"codec": "a", "configuration": "b", "digest": "c", "image": "d"}
    with Store(tmp_path / "r.sqlite") as store:
        store.add(row | {"image_hash": str(i), "psnr": np.inf, "mse": 0.0} for i in range(3))
        store.export(tmp_path / "r.csv")
    for name in ("r.sqlite", "r.csv"):
        (found,) = results.means(tmp_path / name).to_dict("records")
        assert found["psnr"] == found["psnr_of_mean_mse"] == found["ms_ssim_db"] == np.inf
        assert found["images"] == 3


def test_means_tell_the_same_images_from_as_many_others(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "BATCH", 2)
    sets = {"a": "123", "b": "312", "c": "124", "d": "12", "e": "1234"}
    with Store(tmp_path / "r.sqlite") as store:
        store.add(row_of(Job(codec, "q=1", "digest", f"{image}.png", image)) for codec in sets for image in sets[codec])
        rows = list(store.rows())
        for ending in ("csv", "parquet"):
            store.export(tmp_path / f"r.{ending}")
    pd.DataFrame(rows[::-1]).to_csv(tmp_path / "reversed.csv")
    found = []
    for name in ("r.sqlite", "r.csv", "r.parquet", "reversed.csv"):
        means = results.means(tmp_path / name).set_index("codec")
        assert dict(means["images"]) == {codec: len(images) for codec, images in sets.items()}
        found.append(dict(means["image_set"]))
    assert all(other == found[0] for other in found[1:])
    assert found[0]["a"] == found[0]["b"]
    assert len(set(found[0].values())) == 4


def test_an_ms_ssim_that_was_rounded_above_one_is_one(tmp_path):
    """Tables were written with what float32 finds in flat images; dB are refused all the same."""
    with Store(tmp_path / "r.sqlite") as store:
        store.add([row_of(Job("a", "b", "c", "d", "e")) | {"ms_ssim": 1.00029}])
        assert store.means().loc[0, ["ms_ssim", "ms_ssim_db"]].tolist() == [1, np.inf]
        store.add([row_of(Job("a", "b", "c", "d", "e")) | {"ms_ssim": 13.6}])
        with pytest.raises(ValueError, match="at most 1"):
            store.means()


def test_a_table_without_rows_has_the_means_of_none(tmp_path):
    """Numbers all the same, so that whoever computes with them needs no exception."""
    with Store(tmp_path / "r.sqlite") as store:
        for ending in ("csv", "parquet"):
            store.export(tmp_path / f"r.{ending}")
    for ending in ("sqlite", "csv", "parquet"):
        means = results.means(tmp_path / f"r.{ending}")
        assert list(means) == results.MEANS
        assert len(means) == 0
        assert means["images"].dtype == int
        assert set(means.loc[:, "bpp":].dtypes) == {np.dtype(float)}


def test_the_newest_rows_are_in_the_working_table(tmp_path):
    for name in ("r.csv", "r.parquet"):
        assert results.newest(tmp_path / name) == tmp_path / name
        with Store(results.working(tmp_path / name)) as store:  # as a killed sweep leaves it
            assert results.newest(tmp_path / name) == store.path
            store.export(tmp_path / name)
        assert results.newest(tmp_path / name) == store.path
        store.path.unlink()
        assert results.newest(tmp_path / name) == tmp_path / name
    assert results.newest(tmp_path / "r.sqlite") == tmp_path / "r.sqlite"


def killed(output, jobs):
    """A sweep that measured these jobs into `output` after it was written last, and was killed."""
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sweep import Job, Store, results, row_of
store = Store({str(results.working(output))!r})
store.add(row_of(Job(*job)) for job in {jobs!r})
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    assert results._log(results.working(output)).stat().st_size


def test_a_killed_sweep_reads_the_same_by_every_command_and_reading_leaves_nothing(tmp_path, monkeypatch, capsys):
    output = tmp_path / "r.csv"
    with Store(results.working(output)) as store:
        store.add(row_of(Job("jpeg", f"quality={q}", "d", "i", "h")) | {"bpp": q, "psnr": 10 * q} for q in (1, 2, 3))
        store.export(output)
    killed(output, [("webp", f"quality={q}", "d", "i", "h") for q in (1, 2)])
    there = sorted(path.name for path in tmp_path.iterdir())
    before, connect = results.working(output).read_bytes(), sqlite3.connect

    def refused(name, *args, **options):
        if str(tmp_path) in str(name):
            raise sqlite3.OperationalError("unable to open database file")
        return connect(name, *args, **options)

    for writable in (False, True):
        with monkeypatch.context() as patch:
            if not writable:  # as where the user may not write: SQLite then can't read either
                patch.setattr(sqlite3, "connect", refused)
            assert set(results.means(output)["codec"]) == set(results.means(f"{output}.sqlite")["codec"])
            assert set(results.means(output)["codec"]) == {"jpeg", "webp"}
            assert cli.main(["evaluate", "--summary", "-o", str(output), "--json"]) == 0
            out, err = capsys.readouterr()
            assert {row["codec"] for row in json.loads(out)} == {"jpeg", "webp"}
            assert "r.csv.sqlite is read" in err
            assert cli.main(["bdrate", str(output), "--anchor", "jpeg", "--test", "webp"]) == 2
            assert "the test does not rise" in capsys.readouterr().err  # it is found
        if not writable:
            assert sorted(path.name for path in tmp_path.iterdir()) == there
            assert results.working(output).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.csv", "r.csv.sqlite"]
    output.write_text(output.read_text().replace("jpeg", "mine"))  # by hand, and later
    assert set(results.means(output)["codec"]) == {"mine"}


def test_two_sweeps_that_end_at_the_same_time_export_the_rows_of_both(tmp_path, monkeypatch):
    """The first to export is the slower one."""
    output, write, started = tmp_path / "r.csv", results._write_csv, threading.Event()

    def slow(rows, path):
        first = not started.is_set()
        started.set()
        write(rows, path)
        if first:
            time.sleep(0.3)

    monkeypatch.setattr(results, "_write_csv", slow)

    def one():
        with Store(results.working(output)) as store:
            store.add([row_of(Job("a", "b", "c", "d", "e"))])
            store.export(output)

    thread = threading.Thread(target=one)
    thread.start()
    started.wait()
    with Store(results.working(output)) as store:
        store.add([row_of(Job("f", "g", "h", "i", "j"))])
        store.export(output)
    thread.join()
    assert sorted(pd.read_csv(output)["codec"]) == ["a", "f"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.csv", "r.csv.sqlite"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other limits")
def test_a_full_disk_is_told_with_the_file_and_keeps_what_was_there(tmp_path):
    table, output = tmp_path / "r.csv.sqlite", tmp_path / "r.csv"
    output.write_text("before")
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sweep import Job, Store, row_of
def rows(name, count):
    return (row_of(Job("c", "q", "d", "i", f"{{name}} {{i:050}}")) for i in range(count))
with Store({str(table)!r}) as store:
    store.add(rows("before", 900))
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    for what in (lambda: store.export({str(output)!r}), lambda: store.add(rows("after", 5000))):
        try:
            what()
        except (OSError, ValueError) as error:
            print(getattr(error, "filename", None) or error)
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    first, second = found.stdout.splitlines()
    assert first == str(output)
    assert f"{table} can't be used as a table" in second
    assert output.read_text() == "before"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert results.means(table).loc[0, "images"] == 900


def test_a_relative_path_starts_in_the_caller_s_folder(images, points, tmp_path, monkeypatch):
    """Whoever runs the job may be in another one."""

    def elsewhere(job):
        with monkeypatch.context() as patch:
            patch.chdir(tmp_path)
            return measure(job)

    monkeypatch.chdir(images)
    with Store(tmp_path / "r.sqlite") as store:
        sweep.sweep(points[:1], ["00.png"], store, lambda: Here(elsewhere), 2)
        (row,) = store.rows()
    assert row["image"] == "00.png"


def test_two_sweeps_may_make_the_same_table(tmp_path, monkeypatch):
    """One makes it after the other found none."""
    path, statements = tmp_path / "r.sqlite", []

    class Slow(sqlite3.Connection):
        def execute(self, *arguments):
            statements.append(arguments)
            if len(statements) == 2:
                monkeypatch.undo()
                Store(path).close()
            return super().execute(*arguments)

    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Slow))
    with Store(path) as store:
        assert len(statements) > 2
        store.add([row_of(Job("a", "b", "c", "d", "e"))])
    with Store(path) as store:
        assert len(store) == 1


def test_files_that_are_no_tables_are_refused(tmp_path):
    (tmp_path / "d.sqlite").mkdir()
    with pytest.raises(ValueError, match=r"d\.sqlite can't be used as a table .*give another name"):
        Store(tmp_path / "d.sqlite")
    (tmp_path / "a.sqlite").write_text("no database, though it is long enough to look like one" * 20)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    job = Job("jpeg", "quality=30", "digest", "a.png", "hash")
    pd.DataFrame([row_of(job), row_of(job) | {"psnr": "high"}]).to_csv(tmp_path / "c.csv")
    for name, error, message in (
        ("a.sqlite", ValueError, "can't be used as a table"),
        ("a.csv", ValueError, "has no column codec"),
        ("c.csv", ValueError, r"column psnr of .*c\.csv must hold numbers.*high"),
        ("a.txt", ValueError, "ending must be one of .csv"),
        ("b.csv", FileNotFoundError, "evaluate -o"),
    ):
        with pytest.raises(error, match=message):
            results.means(tmp_path / name)


# ------------------------------------------------------------------ the command


@pytest.fixture
def here(monkeypatch):
    """The command runs its jobs in this process."""

    @contextmanager
    def executor(args):
        yield Here, 4

    monkeypatch.setattr(evaluate, "_executor", executor)


def test_the_command_measures_and_prints_the_means(here, images, tmp_path, capsys):
    output = tmp_path / "results.csv"
    argv = ["evaluate", str(images / "00.png"), str(images / "01.png"), "-c", "jpeg", "-o", str(output)]
    assert cli.main([*argv, "--json"]) == 0
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert [row["configuration"] for row in rows] == configurations("jpeg")
    assert all(row["images"] == 2 for row in rows)
    assert set(rows[0]) == set(results.MEANS)
    assert len(pd.read_csv(output)) == 2 * len(rows)
    assert re.search(rf"{2 * len(rows)}/{2 * len(rows)}", said.err)  # the progress bar

    before = output.read_bytes()
    assert cli.main(["evaluate", "--summary", "-o", str(output)]) == 0
    assert "PSNR of mean MSE" in capsys.readouterr().out
    assert cli.main([*argv, "-c", f"jpeg:{rows[0]['configuration']}"]) == 0  # all of it is done
    assert output.read_bytes() == before


def test_the_command_takes_learned_codecs(here, untrained_weights, photograph, tmp_path, capsys):
    argv = ["evaluate", str(photograph.parent), "-o", str(tmp_path / "r.sqlite"), "--json"]
    assert cli.main([*argv, "-c", "mlic+:q=2,refinement=none"]) == 0
    capsys.readouterr()
    assert cli.main([*argv, "-c", "mlic", "-q", "2", "--swap", "local=attention"]) == 0
    found = [(row["codec"], row["configuration"]) for row in json.loads(capsys.readouterr().out)]
    assert sorted(found) == [("mlic", "q=2,local=attention"), ("mlic+", "q=2,refinement=none")]


def test_mistakes_are_told_before_anything_starts(untrained_weights, images, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("LIC_LAB_DATA", raising=False)
    monkeypatch.setattr(evaluate, "_executor", None)  # it would fail
    (tmp_path / "mine.csv").write_text("precious")
    (tmp_path / "empty").mkdir()
    image, out = str(images / "00.png"), ["-o", str(tmp_path / "r.csv")]
    for argv, message in (
        ([image, "-c", "mlic+", "-q", "6", *out], "no weights for quality 6"),
        ([image, "-c", "jpg", *out], "no codec to measure is called 'jpg'"),
        ([image, "-c", "mlic+", "--swap", "local=swin", *out], "swin"),
        ([image, "-c", "mlic+", "--swap", "local", *out], "q=3,local=stacked"),
        ([image, "-c", "jpeg:very good", *out], "very good"),
        ([image, *out], "which codecs"),
        ([image, "-c", "jpeg", "-o", str(tmp_path / "r.txt")], "ending must be one of"),
        ([image, "-c", "jpeg", "-o", str(tmp_path / "mine.csv")], "give another name"),
        ([image, "-c", "jpeg", "-o", str(tmp_path / "none" / "r.csv")], "there is no folder"),
        ([str(tmp_path / "none.png"), "-c", "jpeg", *out], "there is no image or folder"),
        ([str(tmp_path / "empty"), "-c", "jpeg", *out], "there is no image in"),
        (["-c", "jpeg", *out], "LIC_LAB_DATA is not set"),
    ):
        assert cli.main(["evaluate", *argv]) == 2, argv
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1, said.err
        assert message in said.err
    assert (tmp_path / "mine.csv").read_text() == "precious"
    assert not (tmp_path / "r.csv").exists()


def test_nothing_measured_is_a_failure_and_conversions_are_told(here, images, tmp_path, capsys):
    output, broken, grey = tmp_path / "r.csv", tmp_path / "broken.png", tmp_path / "grey.png"
    broken.write_text("no image")
    argv = ["evaluate", str(broken), "-c", "jpeg:quality=30", "-o", str(output)]
    assert cli.main(argv) == 2
    said = capsys.readouterr()
    assert "broken.png" in said.err and said.err.splitlines()[-1].endswith("nothing was measured: all 1 results failed")
    assert not said.out and not output.exists()
    assert cli.main(["evaluate", "--summary", "-o", str(output)]) == 2
    assert "has no results" in capsys.readouterr().err
    Image.open(images / "00.png").convert("L").save(grey)
    assert cli.main([*argv[:2], str(grey), *argv[2:]]) == 0
    said = capsys.readouterr()
    assert f"converted: {grey} was grey" in said.err and "broken.png" in said.err and "quality=30" in said.out
    assert cli.main(argv) == 2  # none of what was asked for now


@pytest.mark.slow
def test_the_command_can_be_interrupted_and_killed(images, points, whole, tmp_path):
    """Ctrl-C ends it with everything kept and exported, SIGKILL with everything kept; then it goes on."""
    output, large = tmp_path / "r.csv", tmp_path / "large.png"
    Image.fromarray(np.tile(skimage.data.astronaut(), (3, 3, 1))).save(large)
    slow = [tmp_path / f"{i:02}.png" for i in range(40)]  # they follow the others, and take a minute or more
    for i, path in enumerate(slow):
        path.write_bytes(large.read_bytes() + bytes([i]))
    total = len(whole) + len(slow) * len(points)
    codecs = [argument for at in points for argument in ("-c", f"{at.name}:{at.configuration}")]
    argv = [sys.executable, "-m", "lic_lab.cli", "evaluate", str(images), *map(str, slow), *codecs]
    argv += ["--workers", "1", "-o", str(output)]

    @contextmanager
    def running(rows):
        """The command, when the table has so many rows."""
        # A shell's background jobs ignore Ctrl-C, and so would what they start.
        start = partial(subprocess.Popen, preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
        with (tmp_path / "stderr").open("w") as stderr, start(argv, stderr=stderr) as process:
            try:
                while process.poll() is None and measured() < rows:
                    time.sleep(0.05)
                assert process.poll() is None
                yield process
            finally:
                process.kill()

    def measured():
        try:
            with closing(sqlite3.connect(f"{results.working(output).as_uri()}?mode=ro", uri=True)) as db:
                return db.execute("SELECT COUNT(*) FROM results").fetchone()[0]
        except sqlite3.OperationalError:  # no table yet
            return 0

    with running(5) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    assert "Traceback" not in (tmp_path / "stderr").read_text()
    done = len(pd.read_csv(output))
    assert 5 <= done < total
    assert measured() == done

    with running(done + 5):
        pass  # killed
    assert done + 5 <= measured() < total
    with Store(results.working(output)) as store:
        sweep.sweep(points, sweep.walk([images]), store, Here, 4)
        assert [row for row in facts(store) if Path(row["image"]).parent == images] == whole
