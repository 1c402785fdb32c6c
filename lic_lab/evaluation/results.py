"""The table of a sweep: one row per codec, configuration and image, kept in SQLite and handed on as CSV or Parquet.

SQLite is the working table: each row is safe as soon as it is written, whatever happens to the process, and a key tells
what is done. Several sweeps may write to one table at the same time. Nothing here holds more than a batch of rows in
memory.
"""

from __future__ import annotations

import csv
import os
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any, Self

import pandas as pd

from lic_lab.evaluation.quality import ms_ssim_db, psnr_of_mean_mse
from lic_lab.files import written

COLUMNS = {  # of the table, with their types in SQLite
    "codec": "TEXT NOT NULL",
    "configuration": "TEXT NOT NULL",
    "digest": "TEXT NOT NULL",
    "image": "TEXT NOT NULL",
    "image_hash": "TEXT NOT NULL",
    "height": "INTEGER",
    "width": "INTEGER",
    "bpp": "REAL",
    "psnr": "REAL",
    "mse": "REAL",
    "ms_ssim": "REAL",
    "encode_seconds": "REAL",
    "decode_seconds": "REAL",
    "threads": "INTEGER",
    "peak_memory_mb": "REAL",
    "host": "TEXT",
    "version": "TEXT",
}
FAILURE = ("codec", "configuration", "digest", "image", "image_hash", "reason", "host")  # columns of `errors`
ERRORS = f"({' TEXT, '.join(FAILURE)} TEXT, PRIMARY KEY (codec, configuration, digest, image)) WITHOUT ROWID"
CODER = ["codec", "configuration", "digest"]
AVERAGED = ["bpp", "psnr", "mse", "ms_ssim", "encode_seconds", "decode_seconds"]
FOUND = [*CODER, "images", "image_set", *AVERAGED]  # what SQL or batches give
MEANS = [*CODER, "images", "image_set", "bpp", "psnr", "psnr_of_mean_mse", "ms_ssim", "ms_ssim_db", *AVERAGED[4:]]
DATABASES = (".sqlite", ".sqlite3", ".db")
FORMATS = (".csv", ".parquet", *DATABASES)
APPLICATION = 0x4C494372  # "LICr" in the file's header: tells our tables from other people's databases
BATCH = 10_000  # rows
WAIT = 300.0  # seconds for another process that writes to the same table, or exports it
ROUNDED = 1.001  # an MS-SSIM up to here is 1: there are tables with what float32 found in flat images

Row = dict[str, Any]


class Store:
    """The working table in an SQLite file, which is made if it is not there. Close it, or use it in ``with``.

    Parameters
    ----------
    path : str or Path

    Raises
    ------
    ValueError
        When the file is something else, or can't be written to; so do all methods.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"there is no folder {self.path.parent} to write {self.path.name} to; make it first"
            )
        with _told(path, "; give another name"):
            self._db = _connected(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def has(self, codec: str, configuration: str, digest: str, image_hash: str) -> bool:
        """Whether this is measured."""
        where = "codec = ? AND configuration = ? AND digest = ? AND image_hash = ?"
        with _told(self.path):
            found = self._db.execute(f"SELECT 1 FROM results WHERE {where}", (codec, configuration, digest, image_hash))
            return found.fetchone() is not None

    def add(self, rows: Iterable[Row]) -> None:
        """Write rows, and those that have a ``reason`` to the errors; all of them, or none when interrupted.

        A row takes the place of one with the same key; a success takes that of the failure before it. ``notes`` of a
        row are kept while this is open, see `converted`.
        """
        with _told(self.path), self._db:
            for row in rows:
                if "reason" in row:
                    self._db.execute(_insert("errors", FAILURE), row)
                    self._db.execute(_insert("failed", FAILURE), row)
                    continue
                self._db.execute(_insert("results", tuple(COLUMNS)), row)
                same = "codec = :codec AND configuration = :configuration AND digest = :digest AND image = :image"
                self._db.execute(f"DELETE FROM errors WHERE {same}", row)
                self._db.execute(f"DELETE FROM failed WHERE {same}", row)
                if row.get("notes"):
                    self._db.execute(_insert("converted", ("image", "notes")), row)

    def __len__(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM results").fetchone()[0])

    def rows(self) -> Iterator[Row]:
        """All rows by codec, configuration and image, one at a time."""
        found = self._db.execute(f"SELECT {', '.join(COLUMNS)} FROM results ORDER BY {', '.join(COLUMNS)}")
        return (dict(zip(COLUMNS, values, strict=True)) for values in found)

    def errors(self) -> Iterator[Row]:
        """What failed and has not succeeded since: codec, configuration, digest, image, image_hash, reason, host."""
        found = self._db.execute(f"SELECT {', '.join(FAILURE)} FROM errors ORDER BY {', '.join(FAILURE)}")
        return (dict(zip(FAILURE, values, strict=True)) for values in found)

    def failures(self, most: int) -> list[tuple[str, str, int]]:
        """The first images that failed since this was opened: (image, reason, number of coders that it failed with)."""
        query = "SELECT image, reason, COUNT(*) FROM failed GROUP BY image, reason ORDER BY image LIMIT ?"
        return self._db.execute(query, (most,)).fetchall()

    def converted(self, most: int) -> list[tuple[str, str]]:
        """The first images that were measured since this was opened and are not as they are in their files, and how."""
        return self._db.execute("SELECT image, notes FROM converted ORDER BY image LIMIT ?", (most,)).fetchall()

    def means(self) -> pd.DataFrame:
        """See `means`."""
        with _told(self.path):
            return _means(self._db)

    def export(self, path: str | Path) -> None:
        """Write all rows to a CSV or Parquet file by its name's ending, as a whole or not at all.

        Nobody else writes to the table meanwhile, so that of two sweeps that end at the same time the second exports
        the rows of both.
        """
        path = Path(path)
        write = _write_parquet if _format(path) == ".parquet" else _write_csv
        with _told(self.path):
            with suppress(sqlite3.Error):  # else closing the table would change its file after this one
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                with written(path) as new:
                    write(self.rows(), new)
                    os.utime(new, ns=(_changed(self.path),) * 2)  # later ones are of who changed it, see `newest`
            finally:
                self._db.rollback()


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=WAIT)
    try:
        if not _is_ours(db):
            with db:
                db.execute("BEGIN IMMEDIATE")  # from here on no other sweep makes the same table
                if not _is_ours(db):
                    _make_tables(db)
        db.execute("PRAGMA journal_mode = WAL")  # readers and another writer go on while rows are added
        db.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing
        db.execute(f"CREATE TEMPORARY TABLE failed {ERRORS}")  # of `errors`, those since this was opened
        db.execute("CREATE TEMPORARY TABLE converted (image TEXT PRIMARY KEY, notes TEXT)")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def _told(path: str | Path, remedy: str = "") -> Iterator[None]:
    """What SQLite says names no file."""
    try:
        yield
    except sqlite3.Error as error:
        hint = "; is the disk full?" if "disk" in str(error) else remedy
        raise ValueError(f"{path} can't be used as a table of results ({error}){hint}") from None


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The table, for those who may not write: SQLite itself writes beside a table that it reads, so where it can't, a
    copy is read.
    """
    try:
        db = _opened(path)
    except sqlite3.OperationalError:
        with tempfile.TemporaryDirectory(prefix="lic_lab_") as folder:
            copy = Path(folder) / "table"
            shutil.copyfile(path, copy)
            if (log := _log(path)).exists():  # rows that a killed sweep left there
                shutil.copyfile(log, _log(copy))
            with closing(_opened(copy)) as db:
                yield db
        return
    with closing(db):
        yield db


def _opened(path: Path) -> sqlite3.Connection:
    """A table that is there. It is opened as if to write, or what SQLite put beside it would stay there."""
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT)
    try:
        if not _is_ours(db):
            raise sqlite3.DatabaseError("it has other tables, or none")
    except BaseException:
        db.close()
        raise
    return db


def _log(path: Path) -> Path:
    """SQLite's log of what is not in the table's file yet."""
    return path.with_name(f"{path.name}-wal")


def _means(db: sqlite3.Connection) -> pd.DataFrame:
    db.create_aggregate("image_set", 1, _ImageSet)  # type: ignore[arg-type]  # typeshed's aggregates are of numbers
    averages = ", ".join(f"CASE WHEN COUNT({name}) = COUNT(*) THEN AVG({name}) END" for name in AVERAGED)
    group = ", ".join(CODER)
    found = db.execute(f"SELECT {group}, COUNT(*), image_set(image_hash), {averages} FROM results GROUP BY {group}")
    return _finished(pd.DataFrame(found.fetchall(), columns=FOUND))


def _is_ours(db: sqlite3.Connection) -> bool:
    return bool(db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION)


def _make_tables(db: sqlite3.Connection) -> None:
    if db.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]:
        raise sqlite3.DatabaseError("it is a database with other tables")
    db.execute(f"PRAGMA application_id = {APPLICATION}")
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    key = "codec, configuration, digest, image_hash"
    db.execute(f"CREATE TABLE results ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID")
    db.execute(f"CREATE TABLE errors {ERRORS}")


class _ImageSet:
    """Digest of a set of images, in whatever order they come: the sum of their hashes' digests. SQLite calls it too."""

    def __init__(self) -> None:
        self.total = 0

    def step(self, image_hash: str) -> None:
        self.total += int.from_bytes(blake2b(image_hash.encode(), digest_size=16).digest())

    def finalize(self) -> str:
        return f"{self.total % 2**128:032x}"


@cache
def _insert(table: str, columns: tuple[str, ...]) -> str:
    values = ", ".join(f":{name}" for name in columns)
    return f"INSERT OR REPLACE INTO {table} ({', '.join(columns)}) VALUES ({values})"


def working(output: str | Path) -> Path:
    """Where the working table of an output is: the output itself, or beside it as ``results.csv.sqlite``.

    Raises
    ------
    ValueError
        For an ending other than `FORMATS`, or a CSV or Parquet file that no sweep wrote: it would be overwritten.
    """
    output = Path(output)
    beside = _beside(output)
    if output.exists() and not beside.exists():
        raise ValueError(
            f"{output} exists, but not {beside.name}, which a sweep keeps beside it: give another name, or move "
            f"{output.name} away"
        )
    return beside


def newest(output: str | Path) -> Path:
    """Which file has an output's newest rows: the working table, or the output itself if that was changed later.

    While a sweep runs and after it was killed, the CSV or Parquet file is behind, or not there yet. One that somebody
    changed since it was written is what they mean.
    """
    output = Path(output)
    beside = _beside(output)
    return output if not beside.is_file() or _changed(output) > _changed(beside) else beside


def behind(output: str | Path) -> bool:
    """Whether an output is there, and its working table has changed since it was written."""
    return -1 < _changed(Path(output)) < _changed(_beside(Path(output)))


def _changed(path: Path) -> int:
    """When a file, or the table in it, was changed, in nanoseconds; -1 without it."""
    times = [-1]
    for file in (path, _log(path)):
        try:
            found = file.stat()
        except OSError:
            continue
        if found.st_size or file == path:  # whoever reads a table makes an empty log
            times.append(found.st_mtime_ns)
    return max(times)


def _beside(output: Path) -> Path:
    return output if _format(output) in DATABASES else output.with_name(f"{output.name}.sqlite")


def means(path: str | Path) -> pd.DataFrame:
    """Means over the images of a sweep's file, one row per codec, configuration and digest, by rising rate.

    Parameters
    ----------
    path : str or Path
        CSV, Parquet or SQLite, told by its ending; read in batches. Of a sweep that was killed, or still runs, what is
        read is the working table (`newest`). No permission to write is needed.

    Returns
    -------
    DataFrame
        ``codec``, ``configuration``, ``digest``, ``images`` (their number) and ``image_set`` (a digest of their hashes,
        equal for the same images); ``bpp``; ``psnr``, the mean of the images' PSNR, and ``psnr_of_mean_mse``, both in
        dB; ``ms_ssim``, NaN when an image is too small to have one, and ``ms_ssim_db``, of that mean;
        ``encode_seconds``, ``decode_seconds``. See `lic_lab.evaluation.quality`.

    Raises
    ------
    FileNotFoundError, ValueError
        When there is no such file, or it is not a sweep's.
    """
    path = newest(path)
    kind = _format(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give a file that lic-lab evaluate wrote")
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; `lic-lab evaluate -o {path}` makes one")
    if kind in DATABASES:
        with _told(path, "; give a file that lic-lab evaluate wrote"), _reading(path) as db:
            return _means(db)
    total = pd.DataFrame()
    sets: defaultdict[tuple[str, ...], _ImageSet] = defaultdict(_ImageSet)
    for batch in _batches(path, kind):
        missing = [name for name in (*CODER, "image_hash", *AVERAGED) if name not in batch]
        if missing:
            raise ValueError(f"{path} has no column {', '.join(missing)}; give a file that lic-lab evaluate wrote")
        groups = batch.assign(**{name: _numbers(batch[name], path) for name in AVERAGED}).groupby(CODER)
        for coder, hashes in groups["image_hash"]:
            for image_hash in hashes:
                sets[coder].step(str(image_hash))
        sums = groups[AVERAGED].sum().join(groups[AVERAGED].count(), rsuffix="_count")
        sums = sums.assign(images=groups.size())
        total = sums if total.empty else total.add(sums, fill_value=0)
    if total.empty:
        return _finished(pd.DataFrame(columns=FOUND))
    averages = pd.DataFrame(
        {name: (total[name] / total["images"]).where(total[f"{name}_count"] == total["images"]) for name in AVERAGED}
    )
    digests = [sets[coder].finalize() for coder in total.index]
    return _finished(averages.assign(images=total["images"], image_set=digests).reset_index())


def _finished(found: pd.DataFrame) -> pd.DataFrame:
    """The columns that follow from the means, and the order of rows and columns."""
    found = found.astype({"images": int, **dict.fromkeys(AVERAGED, float)})  # one without any value comes as objects
    found["ms_ssim"] = found["ms_ssim"].mask(found["ms_ssim"].between(1, ROUNDED), 1.0)
    found["psnr_of_mean_mse"] = found["mse"].map(lambda mse: psnr_of_mean_mse([mse]))
    found["ms_ssim_db"] = ms_ssim_db(found["ms_ssim"])
    return found.sort_values(["codec", "bpp"], ignore_index=True)[MEANS]


def _format(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"the file of results is called {path.name}; its ending must be one of {', '.join(FORMATS)}")
    return ending


def _batches(path: Path, kind: str) -> Iterator[pd.DataFrame]:
    texts = {name: str for name, kind in COLUMNS.items() if kind.startswith("TEXT")}
    try:
        if kind == ".parquet":
            import pyarrow.parquet as pq

            with pq.ParquetFile(path) as file:
                yield from (batch.to_pandas() for batch in file.iter_batches(BATCH))
        else:
            yield from pd.read_csv(path, dtype=texts, chunksize=BATCH)
    except ValueError as error:  # pandas', pyarrow's and that of text that is no UTF-8
        raise ValueError(
            f"{path} can't be read as {kind[1:].upper()} ({error}); give a file that lic-lab evaluate wrote"
        ) from None


def _numbers(column: pd.Series, path: Path) -> pd.Series:
    try:
        return pd.to_numeric(column)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"column {column.name} of {path} must hold numbers ({error}); give a file that lic-lab evaluate wrote"
        ) from None


def _write_csv(rows: Iterator[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(COLUMNS))
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(rows: Iterator[Row], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"TEXT": pa.string(), "INTEGER": pa.int64(), "REAL": pa.float64()}
    schema = pa.schema([(name, kinds[kind.split()[0]]) for name, kind in COLUMNS.items()])
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
