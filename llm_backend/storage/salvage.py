"""What can still be read of a corrupt SQLite file, written into its successor."""

import json
import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from llm_backend.storage.schema import METADATA

_log = logging.getLogger(__name__)
_SECONDS = 10.0  # requests wait for it
_ROWS_AT_ONCE = 500
_IN_ORDER = ("projects", "jobs", "open_requests", "job_tasks", "completions")
_JSON = ("extra_params", "data", "prediction", "reply")


def salvage(aside: Path, connection: sa.Connection) -> None:
    """Copies the rows that can be read, in the caller's transaction; what is there already stays.

    A table is read from its beginning up to what is broken, then from its end. Never raises.
    """
    deadline = time.monotonic() + _SECONDS
    counts: dict[str, int] = {}
    try:
        with closing(sqlite3.connect(f"file:{quote(str(aside))}?mode=ro", uri=True)) as broken:
            for name in _IN_ORDER:
                counts[name] = _copy(broken, connection, METADATA.tables[name], deadline)
    except (sqlite3.Error, SQLAlchemyError) as error:
        _log.error("No more of the corrupt database can be saved: %s", error)
    saved = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    _log.error("Saved from the corrupt database: %s", saved or "nothing")


def _copy(broken: sqlite3.Connection, connection: sa.Connection, table: sa.Table, deadline: float) -> int:
    insert = table.insert().prefix_with("OR IGNORE")
    copied = 0
    for direction in ("ASC", "DESC"):
        rows: list[dict[str, Any]] = []
        whole = True
        try:
            for row in _rows(broken, table, direction):
                rows.append(row)
                if len(rows) == _ROWS_AT_ONCE:
                    copied += connection.execute(insert, rows).rowcount
                    rows = []
                if time.monotonic() > deadline:
                    break
        except sqlite3.Error:
            whole = False
        if rows:
            copied += connection.execute(insert, rows).rowcount
        if whole:
            break
    return copied


def _rows(broken: sqlite3.Connection, table: sa.Table, direction: str) -> Iterator[dict[str, Any]]:
    """The rows whose JSON is whole."""
    names = [column.name for column in table.columns]
    order = f"ORDER BY rowid {direction}"
    for values in broken.execute(f"SELECT {', '.join(names)} FROM {table.name} {order}"):  # noqa: S608
        row = dict(zip(names, values, strict=True))
        if all(_is_json(row[name]) for name in _JSON if row.get(name) is not None):
            yield row


def _is_json(value: object) -> bool:
    try:
        json.loads(value if isinstance(value, str) else "?")
    except ValueError:
        return False
    return True
