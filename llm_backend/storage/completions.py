"""Completions that were paid for: every reply under the key of what was asked."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from llm_backend.storage.database import Database
from llm_backend.storage.schema import METADATA
from llm_backend.values import Reply

_completions = sa.Table(
    "completions",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False, index=True),
)


_ONE = sa.select(_completions.c.key, _completions.c.reply).where(_completions.c.key == sa.bindparam("wanted"))


@dataclass(frozen=True, slots=True)
class KeyedReply:
    """A reply and the key of what it answers."""

    key: str
    reply: Reply


class StoredCompletions:
    """Replies by key."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, keys: Sequence[str], *, max_age: float | None = None) -> dict[str, Reply]:
        """The replies there are for the keys, of the last `max_age` seconds if it is given.

        One from the future, written before the clock was set back, is not of late.
        """
        one = _ONE
        if max_age is not None:
            now = self._database.now()
            one = _ONE.where(_completions.c.created_at.between(now - max_age, now))
        with self._database.reading() as connection:
            rows = (connection.execute(one, {"wanted": key}).first() for key in keys)
            return {row.key: _as_reply(row.reply) for row in rows if row}

    def put(self, connection: sa.Connection, replies: Sequence[KeyedReply]) -> None:
        """Stores the replies in the caller's transaction; a newer one replaces an older."""
        if not replies:
            return
        now = connection.execute(sa.select(self._database.now())).scalar_one()
        by_key = {
            item.key: {"key": item.key, "reply": json.dumps(asdict(item.reply)), "created_at": now}
            for item in replies
        }
        self._database.upsert(
            connection, _completions, [by_key[key] for key in sorted(by_key)], ["reply", "created_at"]
        )

    def prune(self, *, max_age: float, max_rows: int) -> int:
        """Drops replies older than `max_age` seconds and the oldest above `max_rows`; how many it dropped.

        Nothing is dropped for its age while the clock is wrong, as far as can be told.
        """
        age = _completions.c.created_at
        with self._database.writing() as connection:
            dropped = 0
            if not self._database.time_is_doubtful():
                old = _completions.delete().where(age < self._database.now() - max_age)
                dropped = connection.execute(old).rowcount
            newest_to_drop = connection.execute(
                sa.select(age).order_by(age.desc()).offset(max_rows).limit(1)
            ).scalar()
            if newest_to_drop is not None:
                dropped += connection.execute(_completions.delete().where(age <= newest_to_drop)).rowcount
        return dropped


def _as_reply(stored: str) -> Reply:
    values = json.loads(stored)
    logprobs = values.pop("token_logprobs", ())
    return Reply(**values, token_logprobs=tuple((token, logprob) for token, logprob in logprobs))
