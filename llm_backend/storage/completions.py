"""Completions that were paid for: every reply under the key of what was asked."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from llm_backend.storage.database import Database
from llm_backend.storage.schema import METADATA, add_columns, step_to
from llm_backend.values import Reply

_completions = sa.Table(
    "completions",
    METADATA,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("reply", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False, index=True),
    # How the key was made. The default is for rows that were there before the column: no row is rewritten.
    sa.Column("key_version", sa.Integer, nullable=False, server_default="1"),
)
_is_of_version_1 = _completions.c.key_version == sa.literal_column("1")
_by_version_1 = sa.Index(
    "completions_of_version_1",
    _completions.c.key_version,
    sqlite_where=_is_of_version_1,
    postgresql_where=_is_of_version_1,
)
_KEY_VERSION = 2
_JUST_WRITTEN_SECONDS = 1.0  # while the question was on its way
_KEYS_AT_ONCE = 500  # databases limit how many values one statement may carry
_WANTED = sa.select(_completions.c.key, _completions.c.reply)
_ONE = _WANTED.where(_completions.c.key == sa.bindparam("wanted"))
_SEVERAL = _WANTED.where(_completions.c.key.in_(sa.bindparam("wanted", expanding=True)))
_ANY_OF_VERSION_1 = sa.select(sa.literal(1)).where(_is_of_version_1).limit(1)


@step_to(2)
def _tell_keys_apart(connection: sa.Connection) -> None:
    add_columns(connection, _completions.c.key_version)
    _by_version_1.create(connection)


@dataclass(frozen=True, slots=True)
class KeyedReply:
    """A reply and the key of what it answers."""

    key: str
    reply: Reply


class StoredCompletions:
    """Replies by key."""

    def __init__(self, database: Database) -> None:
        self._database = database
        now, max_age = database.now(), sa.bindparam("max_age", type_=sa.Double)
        # One from the future, written before the clock was set back, is not of late.
        is_recent = _completions.c.created_at.between(now - max_age, now + _JUST_WRITTEN_SECONDS)
        self._one_recent, self._several_recent = _ONE.where(is_recent), _SEVERAL.where(is_recent)
        self._has_keys_of_version_1: bool | None = None

    def get(self, keys: Sequence[str], *, max_age: float | None = None) -> dict[str, Reply]:
        """The replies there are for the keys, of the last `max_age` seconds if it is given.

        One statement for all keys, so that several keys of one reply can be looked up at once.
        """
        one, several = (_ONE, _SEVERAL) if max_age is None else (self._one_recent, self._several_recent)
        values = {} if max_age is None else {"max_age": max_age}
        there: dict[str, Reply] = {}
        with self._database.reading() as connection:
            for start in range(0, len(keys), _KEYS_AT_ONCE):
                some = list(keys[start : start + _KEYS_AT_ONCE])
                rows = (
                    connection.execute(one, values | {"wanted": some[0]})
                    if len(some) == 1
                    else connection.execute(several, values | {"wanted": some})
                )
                there |= {row.key: _as_reply(row.reply) for row in rows}
        return there

    def has_keys_of_version_1(self) -> bool:
        """Whether there are replies with keys as version 1 of the tables had them; looked up once."""
        if self._has_keys_of_version_1 is None:
            with self._database.reading() as connection:
                self._has_keys_of_version_1 = connection.execute(_ANY_OF_VERSION_1).first() is not None
        return self._has_keys_of_version_1

    def put(self, connection: sa.Connection, replies: Sequence[KeyedReply]) -> None:
        """Stores the replies in the caller's transaction; a newer one replaces an older."""
        if not replies:
            return
        written = {"created_at": self._database.time(connection), "key_version": _KEY_VERSION}
        by_key = {
            item.key: {"key": item.key, "reply": json.dumps(asdict(item.reply)), **written}
            for item in replies
        }
        in_order = [by_key[key] for key in sorted(by_key)]  # else two writers may deadlock
        self._database.upsert(connection, _completions, in_order, ["reply", *written])

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
