"""Faults of a SQLite database, for as long as a block lasts, without being root."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from llm_backend.storage import Database


@contextmanager
def full(database: Database) -> Iterator[None]:
    """No connection of this process lets the file grow; SQLite says what it says of a full disk."""

    def limit(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite takes it as the present size

    sa.event.listen(sa.Pool, "checkout", limit)
    try:
        yield
    finally:
        sa.event.remove(sa.Pool, "checkout", limit)
        database.close()  # the limit is one of the connections, which are opened anew


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another program has the write lock."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
