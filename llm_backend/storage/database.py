"""The database: SQLite in `MODEL_DIR` by default, PostgreSQL when several machines share it.

Opened at the first use, so that it is never shared across a fork.
"""

import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from llm_backend.errors import StorageError

METADATA = sa.MetaData()
_BUSY_TIMEOUT_SECONDS = 30
_NAMES_LOCK = 7_235
_SCHEMA_LOCK = 7_235_481  # any number: PostgreSQL's advisory locks are told apart by it


class Database:
    """Connections, and the two kinds of transactions."""

    def __init__(self, database_url: str | None, model_dir: Path) -> None:
        default = sa.URL.create("sqlite", database=str(model_dir / "state.sqlite3"))
        self._url = sa.make_url(database_url) if database_url else default
        self._is_sqlite = self._url.get_backend_name() == "sqlite"
        self._lock = threading.Lock()
        self._engine: sa.Engine | None = None

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database."""
        return Path(self._url.database) if self._is_sqlite and self._url.database else None

    def check_writable(self) -> None:
        """Deletes nothing from each table, as a transaction that writes.

        Raises:
            StorageError: the database cannot be used, or not be written.
        """
        with self.writing() as connection:
            for table in METADATA.sorted_tables:
                connection.execute(table.delete().where(sa.false()))

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection that only reads; on SQLite each statement sees the newest state.

        Raises:
            StorageError: the database cannot be used.
        """
        with _own_errors(), self._opened().connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, lock: str | None = None) -> Iterator[sa.Connection]:
        """A transaction that may write, committed at the end of the block.

        On SQLite it takes the write lock at its start: a read that turns into a write is refused at once,
        whatever the timeout. On PostgreSQL, transactions with the same `lock` come one after the other.

        Raises:
            StorageError: the database cannot be used.
        """
        with _own_errors(), self._opened().execution_options(writes=True).begin() as connection:
            if lock is not None and not self._is_sqlite:
                connection.execute(
                    sa.select(sa.func.pg_advisory_xact_lock(_NAMES_LOCK, sa.func.hashtext(lock)))
                )
            yield connection

    def upsert(
        self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]], changed: Iterable[str]
    ) -> None:
        """Inserts the rows; of those that are there (by primary key) the `changed` columns are set."""
        if not rows:
            return
        insert: Any = sqlite.insert(table) if self._is_sqlite else postgresql.insert(table)
        statement = insert.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: insert.excluded[name] for name in changed},
        )
        connection.execute(statement, rows)

    def close(self) -> None:
        """Closes all connections; the next use opens them again."""
        with self._lock:
            if self._engine is not None:
                self._engine.dispose()
                self._engine = None

    def _opened(self) -> sa.Engine:
        with self._lock:
            if self._engine is None:
                engine = _open_sqlite(self._url) if self._is_sqlite else _open_postgresql(self._url)
                with engine.execution_options(writes=True).begin() as connection:
                    if not self._is_sqlite:  # several replicas may start at once
                        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA_LOCK)))
                    METADATA.create_all(connection)
                self._engine = engine
            return self._engine


def _open_sqlite(url: sa.URL) -> sa.Engine:
    if url.database and url.database != ":memory:":
        file = Path(url.database)
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))  # extra params may hold keys
    engine = sa.create_engine(url, pool_size=16, max_overflow=-1)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin where `_begin` says so
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_SECONDS * 1000}")
        _use_write_ahead_log(connection)
        connection.execute("PRAGMA synchronous = NORMAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("writes"):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _use_write_ahead_log(connection: Any) -> None:
    """The busy timeout does not hold for this switch, which every process makes on a new database."""
    deadline = time.monotonic() + _BUSY_TIMEOUT_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _open_postgresql(url: sa.URL) -> sa.Engine:
    return sa.create_engine(
        url,
        pool_size=8,
        max_overflow=24,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 10,
            "keepalives_idle": 30,
            "options": f"-c statement_timeout={_BUSY_TIMEOUT_SECONDS * 1000}",
        },
    )


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, OSError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
        raise StorageError(f"The database cannot be used: {cause}") from error
