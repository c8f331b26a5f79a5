"""The database: SQLite in `MODEL_DIR` by default, PostgreSQL when several machines share it.

The first use opens it, so that no connection crosses a fork. A corrupt SQLite file is an error until the next
start of the server: its first opening moves the file aside and makes a new one.
"""

import functools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.exc import SQLAlchemyError

from llm_backend.errors import StorageError
from llm_backend.storage import schema, sqlite
from llm_backend.storage.faults import RestartNeededError, has_header, is_corrupt, storage_error

_log = logging.getLogger(__name__)
_FAULTS = (SQLAlchemyError, sqlite3.Error, OSError, ImportError)
_PATIENT_SECONDS = 20.0
_QUICK_SECONDS = 2.0  # Label Studio waits 3 s for `/setup`
_ALONE_SECONDS = 1.5  # in which processes that start at once give way to each other
_DAY_SECONDS = 86400.0
_NAMES_LOCK = 7_235
_SCHEMA_LOCK = 7_235_481  # any number: PostgreSQL's advisory locks are told apart by it


@dataclass(frozen=True, slots=True)
class _Opened:
    """Connections, and the lock on the folder of an SQLite file.

    The engine has no listeners: with one, SQLAlchemy asks for listeners at every step of every connection.
    """

    engine: sa.Engine
    in_use: sqlite.InUse | None

    @contextmanager
    def writing(self, seconds: float) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection, connection.begin():
            if self.engine.dialect.name == "sqlite":
                sqlite.take_write_lock(connection, seconds)
            elif seconds < _PATIENT_SECONDS:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(seconds * 1000)}")
            yield connection


class Database:
    """Connections, the two kinds of transactions, and the time.

    On PostgreSQL the time is the server's. On SQLite it is `clock`, in seconds since the epoch, and `steady`,
    which never jumps and which all processes of the machine share.
    """

    def __init__(
        self,
        database_url: str | None,
        model_dir: Path,
        *,
        moves_corrupt_aside: bool = True,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        """Without `moves_corrupt_aside` a corrupt file stays where it is, also at the start."""
        default = sa.URL.create("sqlite", database=str(model_dir / "state.sqlite3"))
        self._url = sa.make_url(database_url) if database_url else default
        self._is_named = database_url is not None
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._file = sqlite.file_of(self._url) if self._is_sqlite else None
        self._moves_aside = moves_corrupt_aside
        self._clock = clock
        self._steady = steady
        self._wall_ahead = clock() - steady()
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._failed: tuple[float, Exception] = (float("-inf"), StorageError(""))

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database."""
        return self._file

    def check_writable(self) -> None:
        """Writes what is there already: neither a full disk nor a missing right shows otherwise.

        Raises:
            RestartNeededError: the file is corrupt, or somebody has deleted it.
            StorageError: the database cannot be used, or not be written.
        """
        with self.writing() as connection:
            schema.write_nothing_new(connection)
        if self._file is not None:
            if sqlite.is_marked(self._file):
                raise RestartNeededError.corrupt()
            if not self._file.exists():
                raise RestartNeededError.deleted()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that only reads; on SQLite each statement sees the newest state.

        Raises:
            StorageError: the database cannot be used.
        """
        try:
            with (self._opened or self._open()).engine.connect() as connection:
                yield connection
        except _FAULTS as error:
            raise self._told(error) from error

    @contextmanager
    def writing(self, *, lock: str | None = None, quick: bool = False) -> Iterator[sa.Connection]:
        """A transaction that may write, committed at the end of the block.

        On SQLite it takes the write lock at its start: SQLite refuses at once a read that turns into a write,
        whatever the timeout. On PostgreSQL, transactions with the same `lock` come one after the other.
        A `quick` one, for whom somebody waits, waits at most 2 s for others; any other one 20 s.

        Raises:
            StorageError: the database cannot be used.
        """
        try:
            opened = self._opened or self._open()
            with opened.writing(_QUICK_SECONDS if quick else _PATIENT_SECONDS) as connection:
                if lock is not None and not self._is_sqlite:
                    connection.execute(
                        sa.select(sa.func.pg_advisory_xact_lock(_NAMES_LOCK, sa.func.hashtext(lock)))
                    )
                yield connection
        except _FAULTS as error:
            raise self._told(error) from error

    def now(self) -> sa.ColumnElement[float]:
        """Seconds since the epoch at the moment at which the statement is executed."""
        return _read_from(self._clock) if self._is_sqlite else _time_of_the_server()

    def steady(self) -> sa.ColumnElement[float]:
        """Seconds of a clock that nobody sets, where there is one: for whatever runs out.

        After a restart of the machine it begins anew, so what lies further in the future than it can be is
        from before.
        """
        return _read_from(self._steady) if self._is_sqlite else _time_of_the_server()

    def time(self, connection: sa.Connection) -> float:
        """The time of `now` as a number."""
        return self._clock() if self._is_sqlite else connection.execute(_TIME_OF_THE_SERVER).scalar_one()

    def time_is_doubtful(self) -> bool:
        """Whether the clock has been set by more than a day since the start: what seems old may be new."""
        moved = self._clock() - self._steady() - self._wall_ahead
        return self._is_sqlite and abs(moved) > _DAY_SECONDS

    def upsert(
        self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], changed: Iterable[str]
    ) -> None:
        """Inserts the rows; of those that are there (by primary key) the `changed` columns are set."""
        if not rows:
            return
        connection.execute(_upsert(table, tuple(changed), self._is_sqlite), rows)

    def close(self) -> None:
        """Closes all connections; the next use opens them again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.engine.dispose()
            if opened.in_use is not None:
                opened.in_use.end()

    def _told(self, error: BaseException) -> StorageError:
        """Our own error for it. Of a corrupt file the log tells once, and a mark tells the next start."""
        if self._file is not None and is_corrupt(error) and not sqlite.is_marked(self._file):
            cause = str(getattr(error, "orig", None) or error).partition(" with text ")[0]
            _log.error("The database %s is corrupt (%s): start the server again", self._file, cause)
            sqlite.mark(self._file)
        return storage_error(error, self._file)

    def _open(self) -> _Opened:
        asked_at = time.monotonic()
        with self._lock:
            if self._opened is None:
                failed_at, failure = self._failed
                if failed_at > asked_at:  # who waited for a try that failed does not wait for another
                    raise failure
                try:
                    self._opened = self._open_file(self._file) if self._file else self._make(None)
                except Exception as error:
                    self._failed = (time.monotonic(), error)
                    raise
                self._moves_aside = False
            return self._opened

    def _open_file(self, file: Path) -> _Opened:
        file.parent.mkdir(parents=True, exist_ok=True)
        in_use = sqlite.InUse(file.parent)
        try:
            return self._whole_or_new(file, in_use)
        except BaseException:
            in_use.end()
            raise

    def _whole_or_new(self, file: Path, in_use: sqlite.InUse) -> _Opened:
        """Opens the file. The first opening moves a corrupt one aside, unless another process has it open.

        Raises:
            RestartNeededError: the file is corrupt and stays where it is.
        """
        deadline = time.monotonic() + _ALONE_SECONDS
        while (opened := self._make_if_whole(file, in_use)) is None:
            if not self._moves_aside or time.monotonic() > deadline:
                raise RestartNeededError.corrupt()
            if in_use.by_nobody_else():
                opened = self._make_if_whole(file, in_use)  # another process may have been faster
                if opened is None:
                    aside = sqlite.move_aside(file)
                    _log.error("The database %s is corrupt: moved to %s, a new one is made", file, aside)
                    opened = self._make(in_use)
                in_use.share()
                return opened
        return opened

    def _make_if_whole(self, file: Path, in_use: sqlite.InUse) -> _Opened | None:
        """The open database; None where the file is corrupt.

        Raises:
            StorageError: DATABASE_URL names a file that never was a database.
        """
        is_marked = sqlite.is_marked(file)
        if is_marked and not self._moves_aside:
            return None
        try:
            opened = self._make(in_use)
        except (SQLAlchemyError, sqlite3.Error) as error:
            if not is_corrupt(error):
                raise
            if self._is_named and not has_header(file):
                raise StorageError(f"{file} is no database: let DATABASE_URL name another file") from error
            return None
        if is_marked:  # an operator may have repaired it, or put a backup in its place
            if not _can_be_read(opened.engine):
                opened.engine.dispose()
                return None
            sqlite.take_mark_away(file)
        return opened

    def _make(self, in_use: sqlite.InUse | None) -> _Opened:
        """Connections to a database that has today's tables."""
        if self._file is not None:
            sqlite.make_file(self._file)
        engine = sqlite.make_engine(self._url) if self._is_sqlite else _postgresql_engine(self._url)
        opened = _Opened(engine, in_use)
        try:
            with engine.connect() as connection:
                is_current = schema.is_current(connection)
            if not is_current:
                with opened.writing(_PATIENT_SECONDS) as connection:
                    if not self._is_sqlite:  # several replicas may start at once
                        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
                    schema.prepare(connection)
        except BaseException:
            engine.dispose()
            raise
        return opened


@functools.cache
def _upsert(table: sa.Table, changed: tuple[str, ...], is_sqlite: bool) -> sa.Insert:
    insert: Any = sqlite_dialect.insert(table) if is_sqlite else postgresql.insert(table)
    statement: sa.Insert = insert.on_conflict_do_update(
        index_elements=list(table.primary_key.columns),
        set_={name: insert.excluded[name] for name in changed},
    )
    return statement


def _can_be_read(engine: sa.Engine) -> bool:
    """Whether SQLite finds nothing wrong with the file, and every row can be read."""
    try:
        with engine.connect() as connection:
            if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar() != "ok":
                return False
            schema.read_everything(connection)
    except SQLAlchemyError as error:
        if not is_corrupt(error):
            raise
        return False
    return True


def _read_from(clock: Callable[[], float]) -> sa.ColumnElement[float]:
    """A parameter that each execution fills anew, so that a statement can be kept."""
    return sa.bindparam(None, callable_=clock, type_=sa.Double, unique=True)


def _time_of_the_server() -> sa.ColumnElement[float]:
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)


_TIME_OF_THE_SERVER = sa.select(_time_of_the_server())


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    return sa.create_engine(
        url,
        pool_size=8,
        max_overflow=24,
        pool_timeout=_PATIENT_SECONDS,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": int(_QUICK_SECONDS),
            # A server that has vanished says nothing: the system has to find out.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,
            "options": f"-c statement_timeout={int(_PATIENT_SECONDS * 1000)}",
        },
    )
