"""What was paid for and what was proposed: one row for every paid call, one for every prediction.

People may query both tables themselves; docs/operations.md says what stands in them.
"""

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from llm_backend.storage.database import Database
from llm_backend.storage.schema import METADATA, step_to
from llm_backend.values import Json

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up only what is an INTEGER
_payments = sa.Table(
    "ledger",
    METADATA,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("task_id", sa.BigInteger),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("tokens_in", sa.Integer, nullable=False),
    sa.Column("tokens_cached", sa.Integer, nullable=False),
    sa.Column("tokens_out", sa.Integer, nullable=False),
    sa.Column("cost", sa.Double),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("keys", sa.Text, nullable=False),
    sa.Index("ledger_by_time", "project", "at"),
    sa.Index("ledger_by_task", "project", "task_id"),
)
_proposals = sa.Table(
    "proposals",
    METADATA,
    sa.Column("id", _Id, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("project", sa.Text, nullable=False),
    sa.Column("task_id", sa.BigInteger),
    sa.Column("purpose", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("proposed", sa.Text, nullable=False),
    sa.Column("score", sa.Double),
    sa.Index("proposals_by_time", "project", "at"),
    sa.Index("proposals_by_task", "project", "task_id"),
)


@step_to(2)
def _add_ledger(connection: sa.Connection) -> None:
    METADATA.create_all(connection, tables=[_payments, _proposals])


_INSERT_PAYMENT, _INSERT_PROPOSAL = _payments.insert(), _proposals.insert()


@dataclass(frozen=True, slots=True)
class Payment:
    """A call that a provider was paid for.

    `purpose` is the kind of request: `interactive`, `opened`, `batch`, `check`. `tokens_cached` are those of
    `tokens_in` that the provider had in its cache. `cost` is in dollars, None where no price is known.
    `outcome` is `ok` or the code of an error. `keys` are those of the stored replies. `at` is in seconds
    since the epoch.
    """

    project: str
    task_id: int | None
    purpose: str
    provider: str
    model: str
    model_version: str
    tokens_in: int = 0
    tokens_cached: int = 0
    tokens_out: int = 0
    cost: float | None = None
    outcome: str = "ok"
    keys: tuple[str, ...] = ()
    at: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A prediction that a person saw or Label Studio stored, so that a correction can be held against it.

    `proposed` has the values by the name of their control. `at` is in seconds since the epoch.
    """

    project: str
    task_id: int | None
    purpose: str
    model_version: str
    prompt: str
    proposed: Json
    score: float | None = None
    at: float = field(default_factory=time.time)


class Ledger:
    """Payments and proposals, in the order in which they were put."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self, connection: sa.Connection, payments: Sequence[Payment], proposals: Sequence[Proposal]
    ) -> None:
        """Stores all of them in the caller's transaction."""
        if payments:
            connection.execute(_INSERT_PAYMENT, _rows(payments, "keys"))
        if proposals:
            connection.execute(_INSERT_PROPOSAL, _rows(proposals, "proposed"))

    def payments(self, *, project: str | None = None) -> list[Payment]:
        """All payments, or those of the project."""
        rows = self._read(_payments, project)
        return [Payment(**row | {"keys": tuple(json.loads(row["keys"]))}) for row in rows]

    def proposals(self, project: str, *, task_id: int | None = None) -> list[Proposal]:
        """The proposals for the project, or for one task of it."""
        rows = self._read(_proposals, project, task_id)
        return [Proposal(**row | {"proposed": json.loads(row["proposed"])}) for row in rows]

    def _read(self, table: sa.Table, project: str | None, task_id: int | None = None) -> list[dict[str, Any]]:
        columns = [column for column in table.columns if column.name != "id"]
        wanted = sa.select(*columns).order_by(table.c.id)
        if project is not None:
            wanted = wanted.where(table.c.project == project)
        if task_id is not None:
            wanted = wanted.where(table.c.task_id == task_id)
        with self._database.reading() as connection:
            return [dict(row) for row in connection.execute(wanted).mappings()]


def _rows(values: Iterable[Payment] | Iterable[Proposal], as_json: str) -> list[dict[str, Any]]:
    """A row for each value, with the field `as_json` written as JSON."""
    rows = []
    for value in values:
        row = {name: getattr(value, name) for name in value.__slots__}
        row[as_json] = json.dumps(row[as_json])
        rows.append(row)
    return rows
