"""One SQLite file: opening it, marking it as corrupt, and moving a corrupt one aside at a start.

Each process holds a shared lock on the folder as long as it has the file open. Only a process that is alone
moves a file.
"""

import fcntl
import os
import random
import sqlite3
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import sqlalchemy as sa

_WAIT_SECONDS = 2.0
_BESIDE = ("-wal", "-shm")
_MARK = "-is-corrupt"
_making = threading.Lock()


def file_of(url: sa.URL) -> Path | None:
    """The file that the URL names; None for a database in memory."""
    name = url.database or ":memory:"
    if name.startswith("file:"):
        name = unquote(urlsplit(name).path)
    return None if name in (":memory:", "") else Path(name)


def make_file(file: Path) -> None:
    """Makes an empty file where there is none.

    An existing one is never opened here: to close it would end the locks that SQLite has on it.
    """
    with _making:
        if not file.exists():
            with suppress(FileExistsError):  # another process was faster
                os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))  # extra params hold keys


def make_engine(url: sa.URL) -> sa.Engine:
    """An engine for a file that is there, or a database in memory."""
    engine = sa.create_engine(url, pool_size=16, max_overflow=-1, pool_use_lifo=True)

    if file_of(url) is not None:

        @sa.event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
            name = arguments[0]
            if not str(url.database).startswith("file:"):  # a name alone would make a deleted file anew
                name, options = f"file:{quote(name)}?mode=rw", options | {"uri": True}
            return _configured(dialect.connect(name, **options | {"timeout": _WAIT_SECONDS}))

    return engine


def take_write_lock(connection: sa.Connection, seconds: float) -> None:
    """Begins the transaction with the write lock, for which it waits so many seconds at most."""
    driver: Any = connection.connection.driver_connection
    if seconds != _WAIT_SECONDS:
        driver.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")
    try:
        driver.execute("BEGIN IMMEDIATE")
    finally:
        if seconds != _WAIT_SECONDS:
            driver.execute(f"PRAGMA busy_timeout = {int(_WAIT_SECONDS * 1000)}")


class InUse:
    """A lock on the folder of a database, shared by all processes that have it open."""

    def __init__(self, folder: Path) -> None:
        self._folder = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        self.share()

    def share(self) -> None:
        """Holds the lock together with others; waits while another process moves the file."""
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self._folder, fcntl.LOCK_SH)

    def by_nobody_else(self) -> bool:
        """Whether no other process holds the lock; then none can take it until `share` or `end`."""
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # others may find the same: all let go for a moment, so that one can be alone
            fcntl.flock(self._folder, fcntl.LOCK_UN)
            time.sleep(random.uniform(0.005, 0.05))
            self.share()
            return False
        except OSError:  # a file system without locks
            return True
        return True

    def end(self) -> None:
        """Gives the lock back."""
        os.close(self._folder)


def mark(file: Path) -> None:
    """Tells the next start, and all processes, that the file is corrupt."""
    with suppress(OSError):
        os.close(os.open(f"{file}{_MARK}", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def is_marked(file: Path) -> bool:
    """Whether a process has found the file to be corrupt."""
    return os.path.exists(f"{file}{_MARK}")


def take_mark_away(file: Path) -> None:
    """Forgets that the file was corrupt."""
    with suppress(FileNotFoundError):
        os.unlink(f"{file}{_MARK}")


def move_aside(file: Path) -> Path:
    """Renames the file, and what SQLite has beside it, and takes the mark away; the new path."""
    aside = _free_name(file)
    for suffix in ("", *_BESIDE):
        with suppress(FileNotFoundError):
            os.rename(f"{file}{suffix}", f"{aside}{suffix}")
    take_mark_away(file)
    return aside


def _configured(connection: Any) -> Any:
    connection.isolation_level = None  # transactions begin where `take_write_lock` says so
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
    deadline = time.monotonic() + _WAIT_SECONDS
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
