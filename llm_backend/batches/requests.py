"""A batch request: its tasks go onto the work list, and what is done by the deadline goes into the answer."""

import hashlib
import json
import logging
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

from llm_backend.asking.completions import Completer
from llm_backend.asking.plan import Plan
from llm_backend.batches.runner import Worker
from llm_backend.errors import BackendError, StorageError, error_of_code
from llm_backend.operations.metrics import Metrics
from llm_backend.settings import Settings
from llm_backend.storage import RestartNeededError, WorkList
from llm_backend.storage.work import NewTask, TaskResult, new_job
from llm_backend.storage.write_behind import Record, WriteBehind
from llm_backend.values import Json, Usage

_log = logging.getLogger(__name__)
_LATE_SECONDS = 15.0  # an answer may leave so much after its deadline; until then nothing is delivered
_LOOK_AT_MOST_EVERY_SECONDS = 0.05
_LOOK_AGAIN_SECONDS = 0.3  # for what other processes have finished


class Batches:
    """Answers batch requests from the work list, which the worker works off."""

    def __init__(
        self,
        settings: Settings,
        work: WorkList,
        worker: Worker,
        completer: Completer,
        recorder: WriteBehind,
        metrics: Metrics,
        *,
        changed: threading.Condition,
        stopping: threading.Event,
    ) -> None:
        self._work = work
        self._worker = worker
        self._completer = completer
        self._recorder = recorder
        self._metrics = metrics
        self._changed = changed
        self._stopping = stopping
        self._timeout = settings.predict_timeout - min(5.0, settings.predict_timeout / 10)

    def run(self, project: str, plan: Plan, tasks: Sequence[Json]) -> tuple[list[Json | list[Json]], Usage]:
        """One entry per task, in order: its prediction, or an empty list, which Label Studio asks for again.

        Beside them what the request came to.

        Answers some seconds before Label Studio gives up. What is not done by then goes on in the background.

        Raises:
            BackendError: no task got a prediction, and something has failed: the first failure.
        """
        if not tasks:
            return [], Usage()
        if len(tasks) == 1:
            return self._one(plan, tasks[0])
        deadline = time.monotonic() + self._timeout
        now = self._work.now()
        open_until = now + self._timeout + _LATE_SECONDS
        new = [_new_task(task) for task in tasks]
        identities = [task.identity for task in new]
        job = new_job(
            project
            or f"-{uuid.uuid4().hex}",  # requests without a project have nothing to do with each other
            model_version=plan.model_version,
            label_config=plan.config.interface.config,
            extra_params=plan.pinned_params,
            prompt=plan.prompt or "",
            submitted_at=now,
        )
        with self._worker.tokens_paid(open_until) as paid:
            job_id = self._work.submit(job, new, open_until)
            self._worker.start()
            self._wait(job_id, open_until, deadline)
        results = self._work.hand_over(job_id, identities, job)
        entries = self._entries(job_id, identities, results)
        states = [result.state for result in results.values()]
        return entries, Usage(
            predicted=sum(map(bool, entries)),
            background=states.count("pending"),
            tokens_in=paid[0],
            tokens_out=paid[1],
        )

    def _one(self, plan: Plan, task: Json) -> tuple[list[Json | list[Json]], Usage]:
        """A task that a person opens. It is no batch, and ends none."""
        try:
            completion, replies = self._completer.ask_once(plan, task["data"], patient=True)
            self._recorder.put(Record(replies))
            prediction = plan.prediction(task["data"], completion, self._completer.reader)
        except BackendError as error:
            self._metrics.task(error.code)
            raise
        self._metrics.task("predicted")
        usage = Usage(1, tokens_in=completion.prompt_tokens, tokens_out=completion.completion_tokens)
        return [prediction], usage

    def _wait(self, job_id: str, open_until: float, deadline: float) -> None:
        """Until the tasks of the request are finished, job or server end, or the deadline has come."""
        while (remaining := deadline - time.monotonic()) > 0 and not self._stopping.is_set():
            try:
                if not self._work.is_waited_for(job_id, open_until):
                    return
            except RestartNeededError:
                raise
            except StorageError as error:  # it may be back before the deadline
                _log.error("The work list cannot be used: %s", error.logged)
            time.sleep(min(remaining, _LOOK_AT_MOST_EVERY_SECONDS))
            with self._changed:
                self._changed.wait(min(remaining, _LOOK_AGAIN_SECONDS))

    def _entries(
        self, job_id: str, identities: Sequence[str], results: dict[str, TaskResult]
    ) -> list[Json | list[Json]]:
        entries: list[Json | list[Json]] = [
            (result.prediction or []) if (result := results.get(identity)) else [] for identity in identities
        ]
        left = sum(result.state == "pending" for result in results.values())
        if left:
            _log.info("%d of %d tasks of batch %s go on in the background.", left, len(results), job_id)
        if not any(entries):
            self._raise_failure(job_id, list(results.values()))
        return entries

    def _raise_failure(self, job_id: str, results: list[TaskResult]) -> None:
        """Says why nothing has been predicted, if something has failed; else it only goes on."""
        job = self._work.job(job_id)
        if job and job.state != "active" and job.reason:
            raise error_of_code(job.code, job.reason)
        failed = next((result for result in results if result.code), None)
        if failed:
            raise error_of_code(failed.code, failed.reason)


def _new_task(task: Json) -> NewTask:
    """The task with an identity that other data of the same task does not have."""
    digest = hashlib.sha256(json.dumps(task["data"], sort_keys=True).encode()).hexdigest()[:32]
    task_id: Any = task.get("id")
    is_number = isinstance(task_id, int) and not isinstance(task_id, bool) and 0 <= task_id < 2**63
    return NewTask(
        identity=f"{task_id if is_number else ''}:{digest}",
        task_id=task_id if is_number else None,
        data=task["data"],
    )
