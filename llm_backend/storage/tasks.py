"""The tasks of batches. Processes take pending ones by leases; what a dead process had taken is taken anew
when its lease has run out.

`finished_at` is in seconds since the epoch. All other times are of the database's steady clock
(`Database.steady`); what lies further in the future than it can be counts as past.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from llm_backend.storage.database import Database
from llm_backend.storage.schema import METADATA
from llm_backend.storage.states import Change, TaskChange, TaskState, column_of
from llm_backend.values import Json

TASKS = sa.Table(
    "job_tasks",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String(32), nullable=False),
    sa.Column("identity", sa.String(96), nullable=False),
    sa.Column("task_id", sa.BigInteger),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("wanted_until", sa.Double, nullable=False),
    sa.Column("state", column_of(TaskState), nullable=False, server_default=TaskState.PENDING),
    sa.Column("owner", sa.String(64), nullable=False, server_default="", index=True),
    sa.Column("lease_until", sa.Double, nullable=False, server_default="0"),
    sa.Column("prediction", sa.Text),
    sa.Column("code", sa.String(64), nullable=False, server_default=""),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Column("finished_at", sa.Double),
    sa.Column("handed_over_at", sa.Double, nullable=False, server_default="0"),
    sa.UniqueConstraint("job_id", "identity"),
)
sa.Index("job_tasks_in_turn", TASKS.c.job_id, TASKS.c.state, TASKS.c.wanted_until.desc(), TASKS.c.id)
Item = TypeVar("Item")
SLACK_SECONDS = 60.0  # a lease cannot end later than it lasts, and so much for clocks that differ
_COLUMNS_AT_ONCE = 500  # databases limit how many values one statement may carry


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be worked on. `identity` tells it apart within its job, other data included."""

    identity: str
    task_id: int | None
    data: Json


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A task taken by a lease."""

    row: int
    job_id: str
    identity: str
    task_id: int | None
    data: Json
    taken_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work on a taken task ended: with a prediction, with a failure's code and reason, or with
    neither: then it is given back.
    """

    item: WorkItem
    prediction: Json | None = None
    tokens: int = 0
    code: str = ""
    reason: str = ""

    @property
    def change(self) -> Change[TaskState]:
        """What this does to the task."""
        if self.prediction is not None:
            return TaskChange.PREDICTED
        return TaskChange.FAILED if self.code else TaskChange.GIVEN_BACK


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task stands. `prediction` is there when a response may carry it."""

    state: TaskState
    prediction: Json | None
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class DoneTask:
    """A task whose prediction is on its way to Label Studio."""

    row: int
    task_id: int | None
    prediction: Json


@dataclass(frozen=True, slots=True)
class Progress:
    """How many tasks of a job are where, the tokens they took, and how many were finished of late."""

    done: int
    failed: int
    left: int
    undelivered: int
    tokens: int
    per_second: float


class Tasks:
    """The tasks of all jobs. What takes a connection is a part of the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # To make a statement takes longer than to execute it.
        self._lease = _lease(database)
        self._finish = _finish(database)

    def add(
        self, connection: sa.Connection, job_id: str, tasks: Sequence[NewTask], wanted_until: float
    ) -> None:
        """Adds the tasks to the job. Those that are there keep what they have; failed ones are tried again.

        A task with other data takes the place of the earlier one, whose prediction is about something else.
        """
        of_job = TASKS.c.job_id == job_id
        for some in _chunks([task for task in tasks if task.task_id is not None]):
            same_task = TASKS.c.task_id.in_([task.task_id for task in some])
            other_data = TASKS.c.identity.not_in([task.identity for task in some])
            connection.execute(TASKS.delete().where(of_job, same_task, other_data))
        there: set[str] = set()
        for identities in _chunks([task.identity for task in tasks]):
            chosen = of_job & TASKS.c.identity.in_(identities)
            there.update(connection.execute(sa.select(TASKS.c.identity).where(chosen)).scalars())
            is_pending = TASKS.c.state == TaskState.PENDING
            connection.execute(TASKS.update().where(chosen, is_pending).values(wanted_until=wanted_until))
            connection.execute(
                TaskChange.TRIED_AGAIN.of(TASKS)
                .where(chosen)
                .values(code="", reason="", lease_until=0, wanted_until=wanted_until)
            )
        new = [
            {
                "job_id": job_id,
                "identity": task.identity,
                "task_id": task.task_id,
                "data": json.dumps(task.data),
                "wanted_until": wanted_until,
            }
            for task in {task.identity: task for task in tasks if task.identity not in there}.values()
        ]
        if new:
            connection.execute(TASKS.insert(), new)

    def lease(self, job_id: str, owner: str, room: int, seconds: float) -> list[WorkItem]:
        """Takes at most `room` tasks of the job for so many seconds; those asked for last come first.

        On PostgreSQL, tasks that another process is just taking are passed over. SQLite has one writer.
        """
        values = {"job": job_id, "who": owner, "room": room, "seconds": seconds}
        with self._database.writing() as connection:
            rows = connection.execute(self._lease, values).all()
        return [
            WorkItem(
                row.id, job_id, row.identity, row.task_id, json.loads(row.data), row.lease_until - seconds
            )
            for row in sorted(rows, key=lambda row: (-row.wanted_until, row.id))
        ]

    def renew(self, owner: str, rows: Sequence[int], seconds: float) -> None:
        """The owner's leases on these tasks last for so many seconds from now."""
        with self._database.writing() as connection:
            for some in _chunks(sorted(rows)):
                connection.execute(
                    TASKS.update()
                    .where(TASKS.c.id.in_(some), TASKS.c.owner == owner)
                    .where(TASKS.c.state == TaskState.PENDING, TASKS.c.lease_until > 0)
                    .values(lease_until=self._database.steady() + seconds)
                )

    def finish(self, connection: sa.Connection, owner: str, outcomes: Sequence[Outcome]) -> None:
        """Stores how leased tasks ended; not those whose lease was lost."""
        if not outcomes:
            return
        in_order = sorted(outcomes, key=lambda outcome: outcome.item.row)  # else two of these may deadlock
        connection.execute(self._finish, [_outcome_values(owner, outcome) for outcome in in_order])

    def answer(
        self, connection: sa.Connection, job_id: str, identities: Sequence[str], since: float
    ) -> dict[str, TaskResult]:
        """The results of these tasks by identity, for a response; done tasks leave the delivery list.

        What another response has carried since `since` is not given a second time.
        """
        results: dict[str, TaskResult] = {}
        now = self._database.steady()  # under the lock: nothing there is newer
        is_elsewhere = (TASKS.c.state == TaskState.HANDED_OVER) & TASKS.c.handed_over_at.between(since, now)
        for some in _chunks(identities):
            chosen = (TASKS.c.job_id == job_id) & TASKS.c.identity.in_(some)
            # The rows are locked before they are read: what is done in between must not be taken off
            # the list without being in the answer. SQLite has the whole database locked.
            for row in connection.execute(
                sa.select(
                    TASKS.c.identity,
                    TASKS.c.state,
                    TASKS.c.prediction,
                    TASKS.c.code,
                    TASKS.c.reason,
                    is_elsewhere.label("is_elsewhere"),
                )
                .where(chosen)
                .order_by(TASKS.c.id)
                .with_for_update()
            ):
                ready = row.prediction and row.state != TaskState.DELIVERING and not row.is_elsewhere
                prediction = json.loads(row.prediction) if ready else None
                results[row.identity] = TaskResult(row.state, prediction, row.code, row.reason)
            connection.execute(TaskChange.ANSWERED.of(TASKS).where(chosen).values(handed_over_at=now))
        return results

    def send(
        self, connection: sa.Connection, job_id: str, limit: int, *, if_: sa.ColumnElement[bool]
    ) -> list[DoneTask]:
        """The first tasks of the job whose predictions are to be delivered; none where `if_` does not hold.

        Those that an earlier delivery has left half done are among them.
        """
        waiting = (
            sa.select(TASKS.c.id)
            .where(TASKS.c.job_id == job_id, TaskChange.SENT.can_begin(TASKS), if_)
            .order_by(TASKS.c.id)
            .limit(limit)
        )
        sent = connection.execute(
            TaskChange.SENT.of(TASKS)
            .where(TASKS.c.id.in_(waiting))
            .returning(TASKS.c.id, TASKS.c.task_id, TASKS.c.prediction)
        ).all()
        return [
            DoneTask(row.id, row.task_id, json.loads(row.prediction))
            for row in sorted(sent, key=lambda row: row.id)
        ]

    def delivered(self, rows: Sequence[int]) -> None:
        """Label Studio has the predictions of these tasks."""
        self._change(rows, TaskChange.DELIVERED)

    def undeliverable(self, rows: Sequence[int], code: str, reason: str) -> None:
        """Label Studio will not take the predictions of these tasks."""
        self._change(rows, TaskChange.REFUSED, code=code, reason=reason)

    def progress(self, job_id: str, *, of_late: float = 20) -> Progress:
        """How the job stands; `per_second` counts the tasks finished in the last `of_late` seconds."""
        now = self._database.now()
        is_late = TASKS.c.finished_at.between(now - of_late, now)
        counts = sa.select(
            TASKS.c.state,
            sa.func.count().label("tasks"),
            sa.func.sum(TASKS.c.tokens).label("tokens"),
            sa.func.sum(sa.case((is_late, 1), else_=0)).label("of_late"),
            (now - sa.func.min(TASKS.c.finished_at)).label("seconds"),
        )
        with self._database.reading() as connection:
            rows = connection.execute(counts.where(TASKS.c.job_id == job_id).group_by(TASKS.c.state)).all()
        tasks = dict.fromkeys(TaskState, 0) | {row.state: row.tasks for row in rows}
        seconds = max((row.seconds for row in rows if row.seconds is not None), default=0.0)
        undelivered = tasks[TaskState.DONE] + tasks[TaskState.DELIVERING]
        return Progress(
            done=undelivered + tasks[TaskState.HANDED_OVER],
            failed=tasks[TaskState.FAILED],
            left=tasks[TaskState.PENDING],
            undelivered=undelivered,
            tokens=sum(row.tokens or 0 for row in rows),
            per_second=sum(row.of_late for row in rows) / max(1.0, min(of_late, seconds)),
        )

    def _change(self, rows: Sequence[int], change: Change[TaskState], **values: Any) -> None:
        with self._database.writing() as connection:
            for some in _chunks(rows):
                connection.execute(change.of(TASKS).where(TASKS.c.id.in_(some)).values(**values))


def is_over(
    until: sa.ColumnElement[float], now: sa.ColumnElement[float], longest: float | sa.ColumnElement[float]
) -> sa.ColumnElement[bool]:
    """Whether the time has come, or is so far away that a clock which has been set anew gave it."""
    return (until <= now) | (until > now + longest)


def _lease(database: Database) -> sa.Executable:
    """Takes `room` tasks of a `job` for `who`, for so many `seconds`."""
    now, seconds = database.steady(), sa.bindparam("seconds", type_=sa.Double)
    first = (
        sa.select(TASKS.c.id)
        .where(TASKS.c.job_id == sa.bindparam("job"), TASKS.c.state == TaskState.PENDING)
        .where(is_over(TASKS.c.lease_until, now, seconds + SLACK_SECONDS))
        .order_by(TASKS.c.wanted_until.desc(), TASKS.c.id)
        .limit(sa.bindparam("room", type_=sa.Integer))
        .with_for_update(skip_locked=True)
        .cte("first")  # PostgreSQL may run a subquery more than once, and lock more each time
    )
    return (
        TASKS.update()
        .where(TASKS.c.id.in_(sa.select(first.c.id)))
        .values(owner=sa.bindparam("who"), lease_until=now + seconds)
        .returning(
            TASKS.c.id,
            TASKS.c.identity,
            TASKS.c.task_id,
            TASKS.c.data,
            TASKS.c.wanted_until,
            TASKS.c.lease_until,
        )
    )


def _finish(database: Database) -> sa.Update:
    """Stores an outcome, unless the lease was lost; its parameters are `_outcome_values`."""
    return (
        TASKS.update()
        .where(TaskChange.PREDICTED.can_begin(TASKS))  # as all changes that an outcome makes
        .where(TASKS.c.id == sa.bindparam("row"), TASKS.c.owner == sa.bindparam("who"))
        # A database that took the place of another counts its rows anew.
        .where(TASKS.c.job_id == sa.bindparam("job"), TASKS.c.identity == sa.bindparam("same"))
        .values(
            state=sa.bindparam("new_state"),
            prediction=sa.bindparam("new_prediction"),
            code=sa.bindparam("new_code"),
            reason=sa.bindparam("new_reason"),
            tokens=TASKS.c.tokens + sa.bindparam("new_tokens"),
            finished_at=sa.case((sa.bindparam("given_back", type_=sa.Boolean), None), else_=database.now()),
            lease_until=0,
        )
    )


def _outcome_values(owner: str, outcome: Outcome) -> dict[str, Any]:
    change = outcome.change
    return {
        "who": owner,
        "row": outcome.item.row,
        "job": outcome.item.job_id,
        "same": outcome.item.identity,
        "new_state": change.after,
        "new_prediction": json.dumps(outcome.prediction) if outcome.prediction is not None else None,
        "new_code": outcome.code,
        "new_reason": outcome.reason,
        "new_tokens": outcome.tokens,
        "given_back": change is TaskChange.GIVEN_BACK,
    }


def _chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _COLUMNS_AT_ONCE] for start in range(0, len(items), _COLUMNS_AT_ONCE)]
