"""One SQLite file: opening it, telling whether it is still the same, and moving a corrupt one aside.

What several processes must not do at once is done under a lock on a file beside it: making the file, opening
connections, which open the write-ahead log by its name, and renaming all of them.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy as sa

_LOCK_SECONDS = 5.0
_CONNECT_SECONDS = 2.0
_BESIDE = ("-wal", "-shm")

FileId = tuple[int, int]


class ReplacedError(OSError):
    """The file at the path is another one than that which was opened."""


def file_of(url: sa.URL) -> Path | None:
    """The file that the URL names; None for a database in memory."""
    name = url.database or ":memory:"
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    return None if name in (":memory:", "") else Path(name)


def id_of(file: Path) -> FileId | None:
    """What tells a file apart from another of the same name; None if there is none."""
    try:
        status = os.stat(file)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def make_file(file: Path) -> FileId:
    """Makes an empty file where there is none; its id.

    An existing one is never opened here: to close it would end the locks that SQLite has on it.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with _alone(file):
        if not file.exists():
            os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # extra params may hold keys
        return id_of(file) or (0, 0)


def make_engine(url: sa.URL, file: Path | None, file_id: FileId | None) -> sa.Engine:
    """An engine for this file and no other. A transaction's option `writes` is the seconds to wait for it.

    Its connections raise `ReplacedError` when the file has been replaced.
    """
    engine = sa.create_engine(url, pool_size=16, max_overflow=-1)

    if file is not None:

        @sa.event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
            name = arguments[0]
            if not str(url.database).startswith("file:"):  # a name alone would make the file anew
                name, options = f"file:{quote(name)}?mode=rw", options | {"uri": True}
            options = options | {"timeout": _CONNECT_SECONDS}
            with _alone(file):
                if id_of(file) != file_id:
                    raise ReplacedError("The database has been replaced by another: try again")
                return _configured(dialect.connect(name, **options))

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        seconds = options["patience"]
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
        if options.get("writes"):
            driver.execute("BEGIN IMMEDIATE")

    return engine


def move_aside(file: Path, file_id: FileId) -> Path | None:
    """Renames the file, and what SQLite has beside it; the new path, or None if another process was faster.

    The file itself goes first: SQLite then sees that it has moved, and does not delete the log of the next
    one when it closes the last connection to this one.
    """
    with _alone(file):
        if id_of(file) != file_id:
            return None
        aside = _free_name(file)
        os.rename(file, aside)
        for suffix in _BESIDE:
            with suppress(FileNotFoundError):
                os.rename(f"{file}{suffix}", f"{aside}{suffix}")
        return aside


def _configured(connection: Any) -> Any:
    connection.isolation_level = None  # transactions begin where `_begin` says so
    try:
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -512")  # KiB, for each of dozens of connections
    except BaseException:
        connection.close()
        raise
    return connection


def _use_write_ahead_log(connection: Any) -> None:
    """The busy timeout does not hold for this switch."""
    deadline = time.monotonic() + _CONNECT_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _free_name(file: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for number in range(1, 1000):
        aside = file.with_name(f"{file.name}.corrupt-{stamp}{f'-{number}' if number > 1 else ''}")
        if not any(os.path.lexists(f"{aside}{suffix}") for suffix in ("", *_BESIDE)):
            return aside
    raise FileExistsError(f"There are too many corrupt databases in {file.parent}")


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """No other process, and no other thread, is here for the same file.

    Where no lock can be made, the folder is read-only, and nobody can rename anything in it.
    """
    lock = _lock_file(file)
    try:
        deadline = time.monotonic() + _LOCK_SECONDS
        while lock is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.002)
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _lock_file(file: Path) -> int | None:
    try:
        return os.open(f"{file}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:
        return None
