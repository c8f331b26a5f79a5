"""The database: SQLite in `MODEL_DIR` by default, PostgreSQL when several machines share it.

Opened at the first use, so that it is never shared across a fork. A corrupt SQLite file is moved aside, and a
new one is made; every other fault is an error until it has gone.
"""

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
from llm_backend.storage.faults import has_header, is_corrupt, lacks_tables, storage_error
from llm_backend.storage.salvage import salvage

_log = logging.getLogger(__name__)
_PATIENT_SECONDS = 20.0
_QUICK_SECONDS = 2.0  # Label Studio waits 3 s for `/setup`
_TRIES_TO_OPEN = 3
_DAY_SECONDS = 86400.0
_NAMES_LOCK = 7_235
_SCHEMA_LOCK = 7_235_481  # any number: PostgreSQL's advisory locks are told apart by it


@dataclass(frozen=True, slots=True)
class _Opened:
    engine: sa.Engine
    file_id: sqlite.FileId | None


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
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        default = sa.URL.create("sqlite", database=str(model_dir / "state.sqlite3"))
        self._url = sa.make_url(database_url) if database_url else default
        self._is_named = database_url is not None
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._file = sqlite.file_of(self._url) if self._is_sqlite else None
        self._clock = clock
        self._steady = steady
        self._wall_ahead = clock() - steady()
        self._lock = threading.Lock()
        self._opened: _Opened | None = None
        self._failed: tuple[float, Exception] = (float("-inf"), StorageError(""))

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database."""
        return Path(self._url.database) if self._is_sqlite and self._url.database else None

    def check_writable(self) -> None:
        """Writes what is there already: neither a full disk nor a missing right shows otherwise.

        Raises:
            StorageError: the database cannot be used, or not be written.
        """
        with self.writing() as connection:
            schema.write_nothing_new(connection)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that only reads; on SQLite each statement sees the newest state.

        Raises:
            StorageError: the database cannot be used.
        """
        with self._using() as opened, opened.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, lock: str | None = None, quick: bool = False) -> Iterator[sa.Connection]:
        """A transaction that may write, committed at the end of the block.

        On SQLite it takes the write lock at its start: a read that turns into a write is refused at once,
        whatever the timeout. On PostgreSQL, transactions with the same `lock` come one after the other.
        A `quick` one waits two seconds for others at most: somebody waits, or tries again by himself.

        Raises:
            StorageError: the database cannot be used.
        """
        seconds = _QUICK_SECONDS if quick else _PATIENT_SECONDS
        with self._using() as opened:
            engine = opened.engine.execution_options(writes=True, patience=seconds)
            with engine.begin() as connection:
                if lock is not None and not self._is_sqlite:
                    connection.execute(
                        sa.select(sa.func.pg_advisory_xact_lock(_NAMES_LOCK, sa.func.hashtext(lock)))
                    )
                yield connection
            if self._is_gone(opened):
                raise sqlite.ReplacedError("The database was replaced while it was written to: try again")

    def now(self) -> sa.ColumnElement[float]:
        """Seconds since the epoch when the statement is executed, which may be made long before."""
        return _called(self._clock) if self._is_sqlite else _time_of_the_server()

    def steady(self) -> sa.ColumnElement[float]:
        """Seconds of a clock that nobody sets, where there is one: for whatever runs out.

        After a restart of the machine it begins anew, so what lies further in the future than it can be is
        from before.
        """
        return _called(self._steady) if self._is_sqlite else _time_of_the_server()

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
        insert: Any = sqlite_dialect.insert(table) if self._is_sqlite else postgresql.insert(table)
        statement = insert.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: insert.excluded[name] for name in changed},
        )
        connection.execute(statement, rows)

    def close(self) -> None:
        """Closes all connections; the next use opens them again."""
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened.engine.dispose()

    @contextmanager
    def _using(self) -> Iterator[_Opened]:
        """The open database. A corrupt one is replaced, for who comes next."""
        opened: _Opened | None = None
        try:
            opened = self._open()
            yield opened
        except (SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
            if opened is not None and is_corrupt(error) and self._file is not None:
                try:
                    self._replace(opened, error)
                except (SQLAlchemyError, sqlite3.Error, OSError) as another:
                    raise storage_error(another, self._file) from another
                raise StorageError("The database was corrupt and has been replaced: try again") from error
            if opened is not None and (isinstance(error, sqlite.ReplacedError) or lacks_tables(error)):
                self._forget(opened)
            raise storage_error(error, self._file) from error

    def _open(self) -> _Opened:
        asked_at = time.monotonic()
        with self._lock:
            if self._opened is not None and self._is_gone(self._opened):
                _log.error("The database %s has been replaced, or deleted: opening it anew", self._file)
                self._opened.engine.dispose()
                self._opened = None
            if self._opened is None:
                failed_at, failure = self._failed
                if failed_at > asked_at:  # who waited for a try that failed does not wait for another
                    raise failure
                try:
                    self._opened = self._open_and_prepare()
                except Exception as error:
                    self._failed = (time.monotonic(), error)
                    raise
            return self._opened

    def _open_and_prepare(self) -> _Opened:
        aside: Path | None = None
        for tries_left in reversed(range(_TRIES_TO_OPEN)):
            opened = self._make()
            try:
                self._prepare(opened.engine, aside)
            except (SQLAlchemyError, sqlite3.Error, OSError) as error:
                if self._is_somebody_elses(error):
                    opened.engine.dispose()
                    raise StorageError(
                        f"{self._file} is no database: let DATABASE_URL name another file"
                    ) from error
                if tries_left and opened.file_id and self._file and is_corrupt(error):
                    aside = _move_aside(self._file, opened.file_id, error) or aside
                    opened.engine.dispose()
                    continue
                opened.engine.dispose()
                if tries_left and isinstance(error, sqlite.ReplacedError):
                    continue
                raise
            except BaseException:
                opened.engine.dispose()
                raise
            return opened
        raise AssertionError("the last try returns or raises")

    def _is_somebody_elses(self, error: BaseException) -> bool:
        """Whether DATABASE_URL names a file that never was a database: it is not moved aside."""
        return self._is_named and self._file is not None and is_corrupt(error) and not has_header(self._file)

    def _make(self) -> _Opened:
        if not self._is_sqlite:
            return _Opened(_postgresql_engine(self._url), None)
        file_id = None
        if self._file is not None:
            file_id = sqlite.id_of(self._file) or sqlite.make_file(self._file)
        engine = sqlite.make_engine(self._url, self._file, file_id)
        return _Opened(engine.execution_options(patience=_QUICK_SECONDS), file_id)

    def _prepare(self, engine: sa.Engine, aside: Path | None) -> None:
        """The tables as this program knows them, with what could be saved of a corrupt database."""
        with engine.connect() as connection:
            if aside is None and schema.is_current(connection):
                return
        with engine.execution_options(writes=True, patience=_PATIENT_SECONDS).begin() as connection:
            if not self._is_sqlite:  # several replicas may start at once
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
            schema.prepare(connection)
            if aside is not None:
                salvage(aside, connection)

    def _replace(self, opened: _Opened, error: BaseException) -> None:
        """Makes place for a new file, and makes it, unless somebody else has."""
        with self._lock:
            if self._opened is opened:
                self._opened = None
            try:
                if self._file is None or opened.file_id is None:
                    return
                aside = _move_aside(self._file, opened.file_id, error)
                if aside is not None and self._opened is None:
                    made = self._make()
                    self._prepare(made.engine, aside)
                    self._opened = made
            finally:
                opened.engine.dispose()

    def _forget(self, opened: _Opened) -> None:
        with self._lock:
            if self._opened is opened:
                self._opened = None
        opened.engine.dispose()

    def _is_gone(self, opened: _Opened) -> bool:
        """Whether the file at the path is another than the open one."""
        return self._file is not None and sqlite.id_of(self._file) != opened.file_id


def _move_aside(file: Path, file_id: sqlite.FileId, error: BaseException) -> Path | None:
    aside = sqlite.move_aside(file, file_id)
    if aside is not None:
        cause = str(getattr(error, "orig", None) or error).partition(" with text ")[0]
        _log.error("The database %s is corrupt (%s): moved to %s, a new one is made", file, cause, aside)
    return aside


def _called(clock: Callable[[], float]) -> sa.BindParameter[float]:
    return sa.bindparam(None, callable_=clock, type_=sa.Double)


def _time_of_the_server() -> sa.ColumnElement[float]:
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Double)


def _postgresql_engine(url: sa.URL) -> sa.Engine:
    engine = sa.create_engine(
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

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if options.get("writes") and options["patience"] < _PATIENT_SECONDS:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(options['patience'] * 1000)}")

    return engine
