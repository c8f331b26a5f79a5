"""Batches: many tasks asked for at once, worked off side by side, answered or delivered."""

from collections.abc import Sequence

from llm_backend.asking.shape import Shape
from llm_backend.batches.delivery import Delivery
from llm_backend.batches.housekeeping import Housekeeping
from llm_backend.batches.job_here import JobsHere
from llm_backend.batches.requests import Entries, Requests
from llm_backend.batches.runner import Runner
from llm_backend.batches.shared import Changed, Shared
from llm_backend.storage import Job, JobChange, Progress
from llm_backend.values import Json, Usage

__all__ = ["Batches", "Changed", "Shared"]


class Batches:
    """All that a process does for batches. Its threads start with the first batch, or with `start`."""

    def __init__(self, shared: Shared) -> None:
        here = JobsHere()
        self._jobs = shared.jobs
        self._runner = Runner(shared, here)
        self._requests = Requests(shared, self._runner, here)
        delivery = Delivery(shared)
        self._housekeeping = Housekeeping(shared, delivery)

    def run(
        self, project: str, shape: Shape, label_config: str, extra_params: Json, tasks: Sequence[Json]
    ) -> tuple[Entries, Usage]:
        """One entry per task, in order: its prediction, or an empty list, which Label Studio asks for again.

        Beside them what the request came to. Answers some seconds before Label Studio gives up. What is not
        done by then goes on in the background.

        Raises:
            BackendError: no task got a prediction, and something has failed: the first failure.
        """
        return self._requests.answer(project, shape, label_config, extra_params, tasks)

    def recent(self) -> list[tuple[Job, Progress]]:
        """The newest jobs, newest first, and how they stand."""
        return [(job, self._jobs.tasks.progress(job.id)) for job in self._jobs.recent()]

    def stop(self, job_id: str) -> bool | None:
        """Stops an active job, because a person says so; whether it did. None if there is no such job."""
        if self._jobs.end(job_id, JobChange.STOPPED, reason="Stopped by a person"):
            return True
        return None if self._jobs.get(job_id) is None else False

    def start(self) -> None:
        """Goes on with what an earlier process has left, delivers, and drops what is old."""
        self._runner.start()
        self._housekeeping.start()

    def close(self, deadline: float) -> bool:
        """Finishes what is under way until `deadline` of the monotonic clock; whether all has ended.

        `Shared.stopping` must be set.
        """
        ended = [self._runner.close(deadline), self._housekeeping.close(deadline)]
        return all(ended)
