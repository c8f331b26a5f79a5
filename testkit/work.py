"""Batches that are put onto the work list, and taken off it, by hand."""

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from llm_backend.storage import Batch, Database, Jobs, NewTask, OpenRequest, Outcome

PREDICTION = {"result": [], "model_version": "v1"}


def batch(version: str = "v1", project: str = "1.5", **values: Any) -> Batch:
    """What a job is made of; `values` for its other fields."""
    usual = {"label_config": "<View/>", "extra_params": {"model": "m"}, "prompt": "p", "shape": None}
    return Batch(project, version, **usual | values)


def request(jobs: Jobs, open_for: float = -1) -> OpenRequest:
    """A request that begins now and is open for so many seconds."""
    now = jobs.now()
    return OpenRequest(uuid4().hex, now, now + open_for)


def tasks(count: int, first: int = 1, text: str = "t") -> list[NewTask]:
    """So many tasks."""
    return [NewTask(f"{n}:{text}", n, {"text": text}) for n in range(first, first + count)]


def submit(jobs: Jobs, some: Sequence[NewTask], a_batch: Batch | None = None, open_for: float = -1) -> str:
    """Submits the tasks for a request that is open for so many seconds; the id of the job."""
    return jobs.submit(a_batch or batch(), some, request(jobs, open_for))


def finish(database: Database, jobs: Jobs, owner: str, outcomes: Sequence[Outcome]) -> None:
    """Writes the outcomes down."""
    with database.writing() as connection:
        jobs.tasks.finish(connection, owner, outcomes)


def work_off(database: Database, jobs: Jobs, job_id: str, *, most: int = 100) -> list[int | None]:
    """Takes and predicts at most so many tasks; their ids."""
    items = jobs.tasks.lease(job_id, "me", most, 60)
    finish(database, jobs, "me", [Outcome(item, PREDICTION, tokens=3) for item in items])
    return [item.task_id for item in items]
