"""The work list: batches (jobs) and their tasks, shared by all processes and machines on one database.

A task is `pending` until it is `done` (it has a prediction, to be answered or delivered) or `failed`; a done
one is `delivering` while it is on its way and `handed_over` when Label Studio has the prediction. Processes
take pending tasks by leases: one conditional UPDATE, the same on SQLite and PostgreSQL; what a dead process
had taken is taken anew when its lease has run out.

`created_at` and `finished_at` are seconds since the epoch. All other times are of the database's steady clock
(`Database.steady`); what lies further in the future than it can be counts as past.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from llm_backend.storage.database import Database
from llm_backend.storage.schema import METADATA, add_columns, step_to
from llm_backend.values import Json

_jobs = sa.Table(
    "jobs",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("project", sa.Text, nullable=False, index=True),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("label_config", sa.Text, nullable=False),
    sa.Column("extra_params", sa.Text, nullable=False),
    sa.Column("prompt", sa.Text, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False, server_default=""),
    sa.Column("code", sa.String(64), nullable=False, server_default=""),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("submitted_at", sa.Double, nullable=False),
    sa.Column("delivery_owner", sa.String(64), nullable=False, server_default=""),
    sa.Column("delivery_lease_until", sa.Double, nullable=False, server_default="0"),
    sa.Column("shape", sa.Text),  # NULL where version 1 of the tables stored the job
    sa.Index("jobs_by_version", "project", "model_version"),
)
_requests = sa.Table(
    "open_requests",
    METADATA,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("job_id", sa.String(32), nullable=False, index=True),
    sa.Column("open_until", sa.Double, nullable=False),
)
_tasks = sa.Table(
    "job_tasks",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("job_id", sa.String(32), nullable=False),
    sa.Column("identity", sa.String(96), nullable=False),
    sa.Column("task_id", sa.BigInteger),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("wanted_until", sa.Double, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, server_default="pending"),
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
sa.Index("job_tasks_in_turn", _tasks.c.job_id, _tasks.c.state, _tasks.c.wanted_until.desc(), _tasks.c.id)


@step_to(2)
def _add_shape(connection: sa.Connection) -> None:
    add_columns(connection, _jobs.c.shape)


Item = TypeVar("Item")
_SLACK_SECONDS = 60.0  # a lease cannot end later than it lasts, and so much for clocks that differ
_COLUMNS_AT_ONCE = 500  # databases limit how many values one statement may carry


@dataclass(frozen=True, slots=True)
class Job:
    """A batch: what it began with, and how it stands.

    `state` is `active`, `done`, `stopped` (by a person or a newer batch) or `failed` (`code` and `reason`
    say why).
    """

    id: str
    project: str
    model_version: str
    label_config: str
    extra_params: Json
    prompt: str
    shape: str | None
    state: str
    code: str
    reason: str
    created_at: float
    submitted_at: float


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
    wanted_until: float
    taken_at: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the work on a taken task ended: a prediction, or a failure's code and reason, or neither, which
    gives it back.
    """

    item: WorkItem
    prediction: Json | None = None
    tokens: int = 0
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task stands. `prediction` is there when it is done."""

    state: str
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


class WorkList:
    """Jobs and their tasks. Every method is one transaction."""

    def __init__(self, database: Database, *, longest_request: float = 3600.0) -> None:
        """`longest_request` is in seconds: no request stays open for longer."""
        self._database = database
        self._longest_request = longest_request

    def now(self) -> float:
        """The time by which requests are open and jobs submitted."""
        with self._database.reading() as connection:
            return float(connection.execute(sa.select(self._database.steady())).scalar_one())

    def submit(self, job: Job, tasks: Sequence[NewTask], open_until: float) -> str:
        """Adds the tasks to the project's job with this model version, which is made if need be; its id.

        Until `open_until`, by `now`, the request, named by `job.id`, may still answer: nothing is delivered
        before.

        Tasks that are there already keep what they have, but failed ones are tried again; other data of the
        same task replaces the earlier. An active job of the project with another model version is stopped.
        """
        with self._database.writing(lock=job.project) as connection:
            connection.execute(
                _jobs.update()
                .where(_jobs.c.project == job.project, _jobs.c.state == "active")
                .where(_jobs.c.model_version != job.model_version)
                .values(state="stopped", reason="A newer batch with another prompt or model took its place")
            )
            known = connection.execute(
                sa.select(_jobs.c.id)
                .where(_jobs.c.project == job.project, _jobs.c.model_version == job.model_version)
                .order_by(_jobs.c.created_at.desc())
            ).first()
            if known is None:
                connection.execute(
                    _jobs.insert().values(
                        **_job_values(job),
                        created_at=self._database.now(),
                        submitted_at=self._database.steady(),
                    )
                )
                job_id = job.id
            else:
                job_id = known.id
                connection.execute(
                    _jobs.update()
                    .where(_jobs.c.id == job_id)
                    .values(
                        state="active",
                        code="",
                        reason="",
                        submitted_at=self._database.steady(),
                        label_config=job.label_config,
                        shape=job.shape,
                        extra_params=json.dumps(job.extra_params),  # another key makes no other version
                    )
                )
                self._forget_other_data(connection, job_id, tasks)
                self._want_again(connection, job_id, tasks, open_until)
            self._insert_new(connection, job_id, tasks, open_until)
            connection.execute(_requests.insert().values(id=job.id, job_id=job_id, open_until=open_until))
        return job_id

    def active_jobs(self) -> list[Job]:
        """The jobs with work or deliveries left; those for which a request is open come first."""
        open_jobs = sa.select(_requests.c.job_id).where(self._is_open())
        active = (
            _jobs.select()
            .where(_jobs.c.state == "active")
            .order_by(_jobs.c.id.in_(open_jobs).desc(), _jobs.c.created_at)
        )
        with self._database.reading() as connection:
            return [_as_job(row) for row in connection.execute(active)]

    def tasks_left(self) -> int:
        """How many tasks of all active jobs are pending."""
        pending = (
            sa.select(sa.func.count())
            .select_from(_jobs.join(_tasks, _tasks.c.job_id == _jobs.c.id))
            .where(_jobs.c.state == "active", _tasks.c.state == "pending")
        )
        with self._database.reading() as connection:
            return int(connection.execute(pending).scalar_one())

    def recent_jobs(self, limit: int = 50) -> list[Job]:
        """The newest jobs, newest first."""
        newest = _jobs.select().order_by(_jobs.c.created_at.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_as_job(row) for row in connection.execute(newest)]

    def job(self, job_id: str) -> Job | None:
        """The job, or None."""
        with self._database.reading() as connection:
            row = connection.execute(_jobs.select().where(_jobs.c.id == job_id)).first()
        return _as_job(row) if row else None

    def lease(self, job_id: str, owner: str, room: int, seconds: float) -> list[WorkItem]:
        """Takes at most `room` tasks of the job for so many seconds; those asked for last come first."""
        now = self._database.steady()
        free = (_tasks.c.job_id == job_id) & (_tasks.c.state == "pending")
        free &= _is_over(_tasks.c.lease_until, now, seconds + _SLACK_SECONDS)
        in_turn = (_tasks.c.wanted_until.desc(), _tasks.c.id)
        first = sa.select(_tasks.c.id).where(free).order_by(*in_turn).limit(room)
        with self._database.writing() as connection:
            rows = connection.execute(
                _tasks.update()
                .where(_tasks.c.id.in_(first), free)
                .values(owner=owner, lease_until=now + seconds)
                .returning(
                    _tasks.c.id,
                    _tasks.c.identity,
                    _tasks.c.task_id,
                    _tasks.c.data,
                    _tasks.c.wanted_until,
                    (_tasks.c.lease_until - seconds).label("taken_at"),
                )
            ).all()
        return [
            WorkItem(
                row.id,
                job_id,
                row.identity,
                row.task_id,
                json.loads(row.data),
                row.wanted_until,
                row.taken_at,
            )
            for row in sorted(rows, key=lambda row: (-row.wanted_until, row.id))
        ]

    def renew(self, owner: str, rows: Sequence[int], seconds: float) -> None:
        """Lets the owner's leases on these tasks last for so many seconds from now."""
        with self._database.writing() as connection:
            for some in _chunks(sorted(rows)):
                connection.execute(
                    _tasks.update()
                    .where(_tasks.c.id.in_(some), _tasks.c.owner == owner, _tasks.c.state == "pending")
                    .where(_tasks.c.lease_until > 0)
                    .values(lease_until=self._database.steady() + seconds)
                )

    def finish(self, connection: sa.Connection, owner: str, outcomes: Sequence[Outcome]) -> None:
        """Writes down how leased tasks ended, in the caller's transaction; not those whose lease was lost."""
        if not outcomes:
            return
        now = self._database.now()
        statement = (
            _tasks.update()
            .where(_tasks.c.id == sa.bindparam("row"), _tasks.c.state == "pending", _tasks.c.owner == owner)
            # A database that took the place of a corrupt one counts its rows anew.
            .where(_tasks.c.job_id == sa.bindparam("job"), _tasks.c.identity == sa.bindparam("same"))
            .values(
                state=sa.bindparam("new_state"),
                prediction=sa.bindparam("new_prediction"),
                code=sa.bindparam("new_code"),
                reason=sa.bindparam("new_reason"),
                tokens=_tasks.c.tokens + sa.bindparam("new_tokens"),
                finished_at=sa.case((sa.bindparam("given_back", type_=sa.Boolean), None), else_=now),
                lease_until=0,
            )
        )
        in_order = sorted(outcomes, key=lambda outcome: outcome.item.row)  # else two of these may deadlock
        connection.execute(statement, [_outcome_values(outcome) for outcome in in_order])

    def is_waited_for(self, job_id: str, open_until: float) -> bool:
        """Whether a task that was submitted with this `open_until` is pending, while its job is active."""
        pending = (
            sa.select(sa.literal(1))
            .select_from(_tasks.join(_jobs, _tasks.c.job_id == _jobs.c.id))
            .where(_tasks.c.job_id == job_id, _tasks.c.state == "pending", _jobs.c.state == "active")
            .where(_tasks.c.wanted_until >= open_until)
            .limit(1)
        )
        with self._database.reading() as connection:
            return connection.execute(pending).first() is not None

    def hand_over(self, job_id: str, identities: Sequence[str], request: Job) -> dict[str, TaskResult]:
        """The results of these tasks, for the response that is about to leave.

        In the same transaction the done ones leave the delivery list, and the request is closed. What another
        response has carried since the request began is not given a second time.
        """
        results: dict[str, TaskResult] = {}
        with self._database.writing() as connection:
            now = self._database.steady()  # under the lock: nothing there is newer
            is_elsewhere = (_tasks.c.state == "handed_over") & _tasks.c.handed_over_at.between(
                request.submitted_at, now
            )
            for some in _chunks(identities):
                chosen = (_tasks.c.job_id == job_id) & _tasks.c.identity.in_(some)
                # The rows are locked before they are read: what is done in between must not be taken off
                # the list without being in the answer. SQLite has the whole database locked.
                for row in connection.execute(
                    sa.select(_tasks, is_elsewhere.label("is_elsewhere"))
                    .where(chosen)
                    .order_by(_tasks.c.id)
                    .with_for_update()
                ):
                    ready = row.prediction and row.state != "delivering" and not row.is_elsewhere
                    prediction = json.loads(row.prediction) if ready else None
                    results[row.identity] = TaskResult(row.state, prediction, row.code, row.reason)
                connection.execute(
                    _tasks.update()
                    .where(chosen, _tasks.c.state == "done")
                    .values(state="handed_over", handed_over_at=now)
                )
            connection.execute(_requests.delete().where(_requests.c.id == request.id))
        return results

    def end(
        self,
        job_id: str,
        state: str,
        *,
        code: str = "",
        reason: str = "",
        submitted_before: float | None = None,
    ) -> bool:
        """Ends an active job, unless it has been submitted again since `submitted_before`; whether it did."""
        with self._database.writing() as connection:
            now = self._database.steady()  # under the lock: nothing there is newer
            before = now if submitted_before is None else submitted_before
            earlier = (_jobs.c.submitted_at <= before) | (_jobs.c.submitted_at > now)
            ended = connection.execute(
                _jobs.update()
                .where(_jobs.c.id == job_id, _jobs.c.state == "active", earlier)
                .values(state=state, code=code, reason=reason)
            )
            return bool(ended.rowcount)

    def end_finished(self, job_id: str) -> bool:
        """Ends an active job as done, if no task is pending and no request open; whether it did."""
        pending = sa.exists().where(_tasks.c.job_id == job_id, _tasks.c.state == "pending")
        with self._database.writing() as connection:
            ended = connection.execute(
                _jobs.update()
                .where(
                    _jobs.c.id == job_id, _jobs.c.state == "active", ~pending, ~self._has_open_request(job_id)
                )
                .values(state="done")
            )
            return bool(ended.rowcount)

    def progress(self, job_id: str, *, of_late: float = 20) -> Progress:
        """How the job stands; `per_second` counts the tasks finished in the last `of_late` seconds."""
        now = self._database.now()
        is_late = _tasks.c.finished_at.between(now - of_late, now)
        counts = sa.select(
            _tasks.c.state,
            sa.func.count().label("tasks"),
            sa.func.sum(_tasks.c.tokens).label("tokens"),
            sa.func.sum(sa.case((is_late, 1), else_=0)).label("of_late"),
            (now - sa.func.min(_tasks.c.finished_at)).label("seconds"),
        )
        with self._database.reading() as connection:
            rows = connection.execute(counts.where(_tasks.c.job_id == job_id).group_by(_tasks.c.state)).all()
        tasks = {row.state: row.tasks for row in rows}
        seconds = max((row.seconds for row in rows if row.seconds is not None), default=0.0)
        return Progress(
            done=sum(tasks.get(state, 0) for state in ("done", "delivering", "handed_over")),
            failed=tasks.get("failed", 0),
            left=tasks.get("pending", 0),
            undelivered=tasks.get("done", 0) + tasks.get("delivering", 0),
            tokens=sum(row.tokens or 0 for row in rows),
            per_second=sum(row.of_late for row in rows) / max(1.0, min(of_late, seconds)),
        )

    def lease_delivery(self, job_id: str, owner: str, seconds: float, *, quick: bool = False) -> bool:
        """Takes, or keeps, the right to deliver the job's predictions: if no request is open, nobody else has
        it, and the job has not been stopped.
        """
        now = self._database.steady()
        is_free = _is_over(_jobs.c.delivery_lease_until, now, seconds + _SLACK_SECONDS)
        with self._database.writing(quick=quick) as connection:
            taken = connection.execute(
                _jobs.update()
                .where(_jobs.c.id == job_id, _jobs.c.state == "active", ~self._has_open_request(job_id))
                .where(is_free | (_jobs.c.delivery_owner == owner))
                .values(delivery_owner=owner, delivery_lease_until=now + seconds)
            )
            return bool(taken.rowcount)

    def release_delivery(self, job_id: str, owner: str) -> None:
        """Gives that right back."""
        with self._database.writing() as connection:
            connection.execute(
                _jobs.update()
                .where(_jobs.c.id == job_id, _jobs.c.delivery_owner == owner)
                .values(delivery_owner="", delivery_lease_until=0)
            )

    def take_for_delivery(self, job_id: str, limit: int) -> list[DoneTask]:
        """The first done tasks that nobody has handed over; none while a request is open.

        They are `delivering` from then on, so that no response carries them, too. Only who has the right to
        deliver may call this: what an earlier delivery has left half done is among them.
        """
        waiting = (
            sa.select(_tasks.c.id)
            .where(_tasks.c.job_id == job_id, _tasks.c.state.in_(("done", "delivering")))
            .where(
                sa.exists().where(_jobs.c.id == job_id, _jobs.c.state == "active"),
                ~self._has_open_request(job_id),
            )
            .order_by(_tasks.c.id)
            .limit(limit)
        )
        with self._database.writing() as connection:
            taken = connection.execute(
                _tasks.update()
                .where(_tasks.c.id.in_(waiting), _tasks.c.state.in_(("done", "delivering")))
                .values(state="delivering")
                .returning(_tasks.c.id, _tasks.c.task_id, _tasks.c.prediction)
            ).all()
        return [
            DoneTask(row.id, row.task_id, json.loads(row.prediction))
            for row in sorted(taken, key=lambda row: row.id)
        ]

    def delivered(self, rows: Sequence[int]) -> None:
        """These tasks have reached Label Studio, or it has them already."""
        self._set_rows(rows, state="handed_over")

    def undeliverable(self, rows: Sequence[int], code: str, reason: str) -> None:
        """Label Studio will not take the predictions of these tasks."""
        self._set_rows(rows, state="failed", code=code, reason=reason)

    def prune(self, *, max_age: float) -> None:
        """Drops ended jobs that began more than `max_age` seconds ago, with their tasks."""
        old = (_jobs.c.state != "active") & (_jobs.c.created_at < self._database.now() - max_age)
        with self._database.writing() as connection:
            connection.execute(_requests.delete().where(~self._is_open()))
            connection.execute(_jobs.delete().where(old))
            connection.execute(_tasks.delete().where(_tasks.c.job_id.not_in(sa.select(_jobs.c.id))))

    def _is_open(self) -> sa.ColumnElement[bool]:
        """Whether a request may still be answered."""
        return ~_is_over(_requests.c.open_until, self._database.steady(), self._longest_request)

    def _has_open_request(self, job_id: str) -> sa.Exists:
        return sa.exists().where(_requests.c.job_id == job_id, self._is_open())

    def _set_rows(self, rows: Sequence[int], **values: Any) -> None:
        with self._database.writing() as connection:
            for some in _chunks(rows):
                connection.execute(
                    _tasks.update()
                    .where(_tasks.c.id.in_(some), _tasks.c.state == "delivering")
                    .values(**values)
                )

    def _forget_other_data(self, connection: sa.Connection, job_id: str, tasks: Sequence[NewTask]) -> None:
        """Drops tasks whose data has changed since: their predictions would be about something else."""
        for some in _chunks([task for task in tasks if task.task_id is not None]):
            connection.execute(
                _tasks.delete()
                .where(_tasks.c.job_id == job_id, _tasks.c.task_id.in_([task.task_id for task in some]))
                .where(_tasks.c.identity.not_in([task.identity for task in some]))
            )

    def _want_again(
        self, connection: sa.Connection, job_id: str, tasks: Sequence[NewTask], wanted_until: float
    ) -> None:
        """Lets the tasks that are there already have their turn soon, and failed ones another try."""
        for some in _chunks([task.identity for task in tasks]):
            chosen = (_tasks.c.job_id == job_id) & _tasks.c.identity.in_(some)
            connection.execute(
                _tasks.update().where(chosen, _tasks.c.state == "pending").values(wanted_until=wanted_until)
            )
            connection.execute(
                _tasks.update()
                .where(chosen, _tasks.c.state == "failed")
                .values(state="pending", code="", reason="", lease_until=0, wanted_until=wanted_until)
            )

    def _insert_new(
        self, connection: sa.Connection, job_id: str, tasks: Sequence[NewTask], wanted_until: float
    ) -> None:
        there: set[str] = set()
        for some in _chunks([task.identity for task in tasks]):
            there |= set(
                connection.execute(
                    sa.select(_tasks.c.identity).where(_tasks.c.job_id == job_id, _tasks.c.identity.in_(some))
                ).scalars()
            )
        new = {task.identity: task for task in tasks if task.identity not in there}
        if new:
            connection.execute(
                _tasks.insert(),
                [
                    {
                        "job_id": job_id,
                        "identity": task.identity,
                        "task_id": task.task_id,
                        "data": json.dumps(task.data),
                        "wanted_until": wanted_until,
                    }
                    for task in new.values()
                ],
            )


def new_job(
    project: str,
    *,
    model_version: str,
    label_config: str,
    extra_params: Mapping[str, Any],
    prompt: str,
    shape: str,
    submitted_at: float,
) -> Job:
    """A job that is about to be submitted; `submitted_at` is `WorkList.now`."""
    return Job(
        id=uuid.uuid4().hex,
        project=project,
        model_version=model_version,
        label_config=label_config,
        extra_params=dict(extra_params),
        prompt=prompt,
        shape=shape,
        state="active",
        code="",
        reason="",
        created_at=0.0,  # the database knows the time
        submitted_at=submitted_at,
    )


def _job_values(job: Job) -> dict[str, Any]:
    values = {column.name: getattr(job, column.name, None) for column in _jobs.columns}
    # What was learnt before this moment says nothing of the job: it is taken under the lock.
    del values["created_at"], values["submitted_at"]
    return values | {
        "extra_params": json.dumps(job.extra_params),
        "delivery_owner": "",
        "delivery_lease_until": 0,
    }


def _as_job(row: Any) -> Job:
    values = {name: row._mapping[name] for name in Job.__slots__}
    return Job(**values | {"extra_params": json.loads(row.extra_params)})


def _is_over(
    until: sa.ColumnElement[float], now: sa.ColumnElement[float], longest: float
) -> sa.ColumnElement[bool]:
    """Whether the time has come, or is so far away that a clock which has been set anew gave it."""
    return (until <= now) | (until > now + longest)


def _outcome_values(outcome: Outcome) -> dict[str, Any]:
    given_back = outcome.prediction is None and not outcome.code
    return {
        "row": outcome.item.row,
        "job": outcome.item.job_id,
        "same": outcome.item.identity,
        "new_state": "pending" if given_back else "done" if outcome.prediction is not None else "failed",
        "new_prediction": json.dumps(outcome.prediction) if outcome.prediction is not None else None,
        "new_code": outcome.code,
        "new_reason": outcome.reason,
        "new_tokens": outcome.tokens,
        "given_back": given_back,
    }


def _chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    return [items[start : start + _COLUMNS_AT_ONCE] for start in range(0, len(items), _COLUMNS_AT_ONCE)]
