"""The work list: batches (jobs), the requests that wait for them, and their tasks.

All processes and machines on one database share it. `created_at` is in seconds since the epoch. All other
times are of the database's steady clock (`Database.steady`); what lies further in the future than it can be
counts as past.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from llm_backend.storage.database import Database
from llm_backend.storage.schema import METADATA, add_columns, step_to
from llm_backend.storage.states import Change, JobChange, JobState, TaskState, column_of
from llm_backend.storage.tasks import SLACK_SECONDS, TASKS, DoneTask, NewTask, TaskResult, Tasks, is_over
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
    sa.Column("state", column_of(JobState), nullable=False, index=True),
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


@step_to(2)
def _add_shape(connection: sa.Connection) -> None:
    add_columns(connection, _jobs.c.shape)


_IS_ACTIVE = _jobs.c.state == JobState.ACTIVE


@dataclass(frozen=True, slots=True)
class Batch:
    """What a job is to be worked on with. `extra_params` are for keys and addresses.

    `shape` is JSON, or None where version 1 of the tables stored the job: then the others make it.
    """

    project: str
    model_version: str
    label_config: str
    extra_params: Json
    prompt: str
    shape: str | None


@dataclass(frozen=True, slots=True)
class Job(Batch):
    """A batch that was submitted, and how it stands."""

    id: str
    state: JobState
    code: str
    reason: str
    created_at: float
    submitted_at: float


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """A request, with an id of its own, that may answer from `since` until `until`, by `Jobs.now`."""

    id: str
    since: float
    until: float


class Jobs:
    """Every method is one transaction."""

    def __init__(self, database: Database, *, longest_request: float = 3600.0) -> None:
        """`longest_request` is in seconds: no request stays open for longer."""
        self._database = database
        self._longest_request = longest_request
        self.tasks = Tasks(database)
        # To make a statement takes longer than to execute it: these two are executed again and again.
        open_jobs = sa.select(_requests.c.job_id).where(self._is_open())
        self._active = (
            _jobs.select().where(_IS_ACTIVE).order_by(_jobs.c.id.in_(open_jobs).desc(), _jobs.c.created_at)
        )
        self._waited_for = (
            sa.select(sa.literal(1))
            .select_from(TASKS.join(_jobs, TASKS.c.job_id == _jobs.c.id))
            .where(TASKS.c.job_id == sa.bindparam("job"), TASKS.c.state == TaskState.PENDING, _IS_ACTIVE)
            .where(TASKS.c.wanted_until >= sa.bindparam("until"))
            .limit(1)
        )

    def now(self) -> float:
        """The time by which requests are open and jobs submitted."""
        with self._database.reading() as connection:
            return float(connection.execute(sa.select(self._database.steady())).scalar_one())

    def submit(self, batch: Batch, tasks: Sequence[NewTask], request: OpenRequest) -> str:
        """Adds the tasks to the project's job with this model version, which is made if need be; its id.

        While the request is open, nothing is delivered. The job goes on with this batch's labeling config,
        shape and extra params. An active job of the project with another model version is stopped.
        """
        values = {
            "label_config": batch.label_config,
            "extra_params": json.dumps(batch.extra_params),
            "prompt": batch.prompt,
            "shape": batch.shape,
            "submitted_at": self._database.steady(),
        }
        of_project, same = _jobs.c.project == batch.project, _jobs.c.model_version == batch.model_version
        with self._database.writing(lock=batch.project) as connection:
            connection.execute(
                JobChange.STOPPED.of(_jobs)
                .where(of_project, ~same)
                .values(reason="A newer batch with another prompt or model took its place")
            )
            job_id = connection.execute(
                sa.select(_jobs.c.id).where(of_project, same).order_by(_jobs.c.created_at.desc()).limit(1)
            ).scalar()
            if job_id is None:
                job_id = request.id
                connection.execute(
                    _jobs.insert().values(
                        id=job_id,
                        project=batch.project,
                        model_version=batch.model_version,
                        state=JobState.ACTIVE,
                        created_at=self._database.now(),
                        **values,
                    )
                )
            else:
                again = JobChange.SUBMITTED_AGAIN.of(_jobs).where(_jobs.c.id == job_id)
                connection.execute(again.values(code="", reason="", **values))
            self.tasks.add(connection, job_id, tasks, request.until)
            connection.execute(
                _requests.insert().values(id=request.id, job_id=job_id, open_until=request.until)
            )
        return str(job_id)

    def active(self) -> list[Job]:
        """The jobs with work or deliveries left; those for which a request is open come first."""
        return self._find(self._active)

    def recent(self, limit: int = 50) -> list[Job]:
        """The newest jobs, newest first."""
        return self._find(_jobs.select().order_by(_jobs.c.created_at.desc()).limit(limit))

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        return next(iter(self._find(_jobs.select().where(_jobs.c.id == job_id))), None)

    def tasks_left(self) -> int:
        """How many tasks of all active jobs are pending."""
        pending = (
            sa.select(sa.func.count())
            .select_from(_jobs.join(TASKS, TASKS.c.job_id == _jobs.c.id))
            .where(_IS_ACTIVE, TASKS.c.state == TaskState.PENDING)
        )
        with self._database.reading() as connection:
            return int(connection.execute(pending).scalar_one())

    def is_waited_for(self, job_id: str, request: OpenRequest) -> bool:
        """Whether a task of the request, or of one that is open for longer, is pending in an active job."""
        values = {"job": job_id, "until": request.until}
        with self._database.reading() as connection:
            return connection.execute(self._waited_for, values).first() is not None

    def hand_over(
        self, job_id: str, identities: Sequence[str], request: OpenRequest
    ) -> dict[str, TaskResult]:
        """The results of these tasks by identity, for the response that is about to leave.

        In the same transaction the done ones leave the delivery list, and the request is closed. What another
        response has carried since the request began is not given a second time.
        """
        with self._database.writing() as connection:
            results = self.tasks.answer(connection, job_id, identities, request.since)
            connection.execute(_requests.delete().where(_requests.c.id == request.id))
        return results

    def end(
        self,
        job_id: str,
        change: Change[JobState],
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
            ended = change.of(_jobs).where(_jobs.c.id == job_id, earlier).values(code=code, reason=reason)
            return bool(connection.execute(ended).rowcount)

    def end_finished(self, job_id: str) -> bool:
        """Ends an active job as done, if no task is pending and no request open; whether it did."""
        pending = sa.exists().where(TASKS.c.job_id == job_id, TASKS.c.state == TaskState.PENDING)
        finished = JobChange.FINISHED.of(_jobs).where(
            _jobs.c.id == job_id, ~pending, ~self._has_open_request(job_id)
        )
        with self._database.writing() as connection:
            return bool(connection.execute(finished).rowcount)

    def lease_delivery(self, job_id: str, owner: str, seconds: float, *, quick: bool = False) -> bool:
        """Takes, or keeps, the right to deliver the job's predictions: if no request is open, nobody else has
        it, and the job is active.
        """
        now = self._database.steady()
        is_free = is_over(_jobs.c.delivery_lease_until, now, seconds + SLACK_SECONDS)
        with self._database.writing(quick=quick) as connection:
            taken = connection.execute(
                _jobs.update()
                .where(_jobs.c.id == job_id, _IS_ACTIVE, ~self._has_open_request(job_id))
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

        From then on no response carries them, too. Only who has the right to deliver may call this.
        """
        is_active = sa.exists().where(_jobs.c.id == job_id, _IS_ACTIVE)
        with self._database.writing() as connection:
            return self.tasks.send(connection, job_id, limit, if_=is_active & ~self._has_open_request(job_id))

    def prune(self, *, max_age: float) -> None:
        """Drops ended jobs that began more than `max_age` seconds ago, with their tasks."""
        old = ~_IS_ACTIVE & (_jobs.c.created_at < self._database.now() - max_age)
        with self._database.writing() as connection:
            connection.execute(_requests.delete().where(~self._is_open()))
            connection.execute(_jobs.delete().where(old))
            connection.execute(TASKS.delete().where(TASKS.c.job_id.not_in(sa.select(_jobs.c.id))))

    def _find(self, jobs: sa.Select[Any]) -> list[Job]:
        with self._database.reading() as connection:
            return [_as_job(row) for row in connection.execute(jobs)]

    def _is_open(self) -> sa.ColumnElement[bool]:
        """Whether a request may still be answered."""
        return ~is_over(_requests.c.open_until, self._database.steady(), self._longest_request)

    def _has_open_request(self, job_id: str) -> sa.Exists:
        return sa.exists().where(_requests.c.job_id == job_id, self._is_open())


def _as_job(row: Any) -> Job:
    values = {field.name: row._mapping[field.name] for field in fields(Job)}
    return Job(**values | {"extra_params": json.loads(row.extra_params)})
