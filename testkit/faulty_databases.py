"""Faults of a SQLite database. Each lasts as long as its block and needs no root."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from llm_backend.storage import Database


@contextmanager
def full(database: Database) -> Iterator[None]:
    """No connection of this process can let the file grow, so SQLite reports a full disk."""

    def limit(connection: Any, *_: Any) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite raises it to the present size

    sa.event.listen(sa.Pool, "checkout", limit)
    try:
        yield
    finally:
        sa.event.remove(sa.Pool, "checkout", limit)
        database.close()  # the limit belongs to the connections: new ones have none


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another connection holds the write lock."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
