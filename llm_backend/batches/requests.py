"""A batch request: its tasks go onto the work list, and what is done by the deadline goes into the answer."""

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Mapping, Sequence

from llm_backend.asking.asking import task_id_of
from llm_backend.asking.shape import Shape
from llm_backend.batches.job_here import JobsHere
from llm_backend.batches.runner import Runner
from llm_backend.batches.shared import Shared
from llm_backend.errors import StorageError, error_of_code
from llm_backend.label_studio.project_key import key_of_no_project
from llm_backend.storage import (
    Batch,
    JobState,
    NewTask,
    OpenRequest,
    RestartNeededError,
    TaskResult,
    TaskState,
)
from llm_backend.values import Json, Usage

_log = logging.getLogger(__name__)
_LATE_SECONDS = 15.0  # an answer may leave so much after its deadline; until then nothing is delivered
_LOOK_AT_MOST_EVERY_SECONDS = 0.05
_LOOK_AGAIN_SECONDS = 0.3  # for what other processes have finished

Entries = list[Json | list[Json]]


class Requests:
    """Answers batch requests from the work list, which the runner works off."""

    def __init__(self, shared: Shared, runner: Runner, here: JobsHere) -> None:
        self._shared = shared
        self._jobs = shared.jobs
        self._runner = runner
        self._here = here
        timeout = shared.settings.predict_timeout
        self._timeout = timeout - min(5.0, timeout / 10)

    def answer(
        self, project: str, shape: Shape, label_config: str, extra_params: Json, tasks: Sequence[Json]
    ) -> tuple[Entries, Usage]:
        """See `Batches.run`."""
        if not tasks:
            return [], Usage()
        deadline = time.monotonic() + self._timeout
        now = self._jobs.now()
        request = OpenRequest(uuid.uuid4().hex, now, now + self._timeout + _LATE_SECONDS)
        batch = Batch(
            project or key_of_no_project(),
            model_version=shape.model_version,
            label_config=label_config,
            extra_params=extra_params,
            prompt=shape.prompt or "",
            shape=shape.as_json(),
        )
        new = [_new_task(task) for task in tasks]
        identities = [task.identity for task in new]
        job_id = self._jobs.submit(batch, new, request)
        with self._here.counting(job_id, request.id, identities) as paid:
            self._runner.start()
            self._wait(job_id, request, deadline)
        results = self._jobs.hand_over(job_id, identities, request)
        entries = self._entries(job_id, identities, results)
        return entries, Usage(
            predicted=sum(map(bool, entries)),
            background=_left(results),
            tokens_in=paid.tokens_in,
            tokens_out=paid.tokens_out,
        )

    def _wait(self, job_id: str, request: OpenRequest, deadline: float) -> None:
        """Until the tasks of the request are finished, job or server end, or the deadline has come."""
        while (remaining := deadline - time.monotonic()) > 0 and not self._shared.stopping.is_set():
            try:
                self._shared.writer.check()
                if not self._jobs.is_waited_for(job_id, request):
                    return
            except RestartNeededError:
                raise
            except StorageError as error:  # it may be back before the deadline
                _log.error("The work list cannot be used: %s", error.logged)
            time.sleep(min(remaining, _LOOK_AT_MOST_EVERY_SECONDS))
            with self._shared.changed:
                self._shared.changed.wait(min(remaining, _LOOK_AGAIN_SECONDS))

    def _entries(self, job_id: str, identities: Sequence[str], results: Mapping[str, TaskResult]) -> Entries:
        entries: Entries = [
            (result.prediction or []) if (result := results.get(identity)) else [] for identity in identities
        ]
        left = _left(results)
        if left:
            _log.info("%d of %d tasks of batch %s go on in the background.", left, len(results), job_id)
        if not any(entries):
            self._raise_failure(job_id, results)
        return entries

    def _raise_failure(self, job_id: str, results: Mapping[str, TaskResult]) -> None:
        """Says why nothing has been predicted, if something has failed; else it only goes on."""
        job = self._jobs.get(job_id)
        if job and job.state is not JobState.ACTIVE and job.reason:
            raise error_of_code(job.code, job.reason)
        failed = next((result for result in results.values() if result.code), None)
        if failed:
            raise error_of_code(failed.code, failed.reason)


def _left(results: Mapping[str, TaskResult]) -> int:
    return sum(result.state is TaskState.PENDING for result in results.values())


def _new_task(task: Json) -> NewTask:
    """The task with an identity that other data of the same task does not have."""
    digest = hashlib.sha256(json.dumps(task["data"], sort_keys=True).encode()).hexdigest()[:32]
    task_id = task_id_of(task)
    return NewTask(
        identity=f"{'' if task_id is None else task_id}:{digest}",
        task_id=task_id,
        data=task["data"],
    )
