"""Brings Label Studio, through its API, the predictions that were not done in time for the response."""

import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress

from llm_backend.errors import BackendError, StorageError
from llm_backend.label_studio.client import LabelStudioError, client_of
from llm_backend.label_studio.expiring import Expiring
from llm_backend.label_studio.project_key import ProjectKey, parse_key
from llm_backend.settings import Settings
from llm_backend.storage import Job, StoredCompletions, WorkList
from llm_backend.storage.work import DoneTask

_log = logging.getLogger(__name__)
_ROUND_SECONDS = 2.0
_MOST_AT_ONCE = 200
_LEASE_SECONDS = 300.0
_TIMEOUT_SECONDS = 60
_RETRY_SECONDS = 15.0
_PRUNE_SECONDS = 600.0
_DAY_SECONDS = 86400.0
_LOOK_AGAIN_SECONDS = 300.0
_MOST_PROJECTS = 1000
_REFUSALS = (400, 404, 422)


class LabelStudioRefusedError(BackendError):
    """Label Studio answered a delivery with 4xx."""

    code = "delivery"


class Delivery:
    """One thread: delivers what is done, ends jobs that have nothing left, and drops what is old."""

    def __init__(
        self,
        settings: Settings,
        work: WorkList,
        stored: StoredCompletions,
        *,
        owner: str,
        stopping: threading.Event,
    ) -> None:
        self._owner = owner
        self._settings = settings
        self._work = work
        self._stored = stored
        self._label_studio = client_of(settings, timeout=_TIMEOUT_SECONDS)
        self._is_there: Expiring[ProjectKey, bool] = Expiring(_MOST_PROJECTS)
        self._closing = stopping
        self._advancing = ""  # the job, while its predictions may be on their way
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins, unless it has begun already."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="delivery", daemon=True)
                self._thread.start()

    def close(self, deadline: float) -> bool:
        """Finishes the delivery that is under way, until `deadline` of the monotonic clock; whether it has.

        What is cut off another process repeats a minute later: Label Studio may still be at it until then.
        """
        self._closing.set()
        if self._thread is None:
            return True
        self._thread.join(max(0.0, deadline - time.monotonic()))
        late = self._thread.is_alive()
        if late and self._advancing:
            with suppress(StorageError):
                self._work.lease_delivery(self._advancing, self._owner, _TIMEOUT_SECONDS, quick=True)
        if not late:
            self._label_studio.close()
        return not late

    def _run(self) -> None:
        rounds = 0
        retry_at: dict[str, float] = {}
        while not self._closing.wait(_ROUND_SECONDS):
            try:
                if rounds % int(_PRUNE_SECONDS / _ROUND_SECONDS) == 0:
                    self._prune()
                rounds += 1
                jobs = self._work.active_jobs()
            except StorageError as error:
                _log.error("The work list cannot be used: %s", error.logged)
                continue
            for job in jobs:
                if time.monotonic() < retry_at.get(job.project, 0.0):
                    continue
                try:
                    self._advance(job)
                except Exception as error:
                    # Whatever Label Studio, its client or the database say: what is done stays on the list.
                    _log.error(
                        "Delivery for project %s failed, trying again soon: %s", job.project, _logged(error)
                    )
                    _log.debug("The reason: %s", error)
                    retry_at[job.project] = time.monotonic() + _RETRY_SECONDS

    def _advance(self, job: Job) -> None:
        """One step for a job: deliver some, or end it when nothing is left."""
        if not self._work.lease_delivery(job.id, self._owner, _LEASE_SECONDS):
            return
        self._advancing = job.id
        try:
            project = self._project(job)
            while project is not None and not self._closing.is_set():
                if not self._work.lease_delivery(job.id, self._owner, _LEASE_SECONDS):
                    return
                done = self._work.take_for_delivery(job.id, _MOST_AT_ONCE)
                if not done:
                    break
                self._deliver(project, job, done)
                _log.info("Batch %s: %d predictions delivered to Label Studio", job.id, len(done))
            progress = self._work.progress(job.id)
            if not progress.left and not (project is not None and progress.undelivered):
                self._work.end_finished(job.id)
        finally:
            self._advancing = ""
            self._work.release_delivery(job.id, self._owner)

    def _project(self, job: Job) -> int | None:
        """The id of the job's project, or None where this Label Studio does not have just this project.

        Several Label Studios may share a backend, and ids repeat.
        """
        key = parse_key(job.project)
        if (
            key is None
            or self._settings.label_studio_url is None
            or self._settings.label_studio_api_key is None
        ):
            return None
        is_there = self._is_there.get(key)
        if is_there is None:
            is_there = self._label_studio.has_project(key)
            self._is_there.put(key, is_there, _LOOK_AGAIN_SECONDS)
            if not is_there:
                _log.warning("Project %s is not in this Label Studio; its batch is only cached", job.project)
        return key.id if is_there else None

    def _deliver(self, project: int, job: Job, done: Sequence[DoneTask]) -> None:
        """Imports the predictions of tasks that have none of this model version yet.

        One unknown task fails a whole call, so a refused call is halved until the culprit is found.
        """
        wanted = [task.task_id for task in done if task.task_id is not None]
        has_one = self._label_studio.tasks_with_version(project, wanted, job.model_version)
        new = [task for task in done if task.task_id is not None and task.task_id not in has_one]
        try:
            if new:
                self._label_studio.import_predictions(
                    project, [{"task": task.task_id, **task.prediction} for task in new]
                )
        except LabelStudioError as error:
            if error.answered not in _REFUSALS:
                raise
            if len(new) == 1:
                refused = LabelStudioRefusedError(f"Label Studio refuses the prediction: {error.body}"[:500])
                self._work.undeliverable([new[0].row], refused.code, refused.reason)
                _log.warning("Label Studio refuses the prediction of task %s", new[0].task_id)
                _log.debug("The reason: %s", refused.reason)
                new = []
            else:
                self._deliver(project, job, new[: len(new) // 2])
                self._deliver(project, job, new[len(new) // 2 :])
        self._work.delivered([task.row for task in done])

    def _prune(self) -> None:
        self._stored.prune(
            max_age=self._settings.cache_days * _DAY_SECONDS, max_rows=self._settings.cache_max_rows
        )
        self._work.prune(max_age=_DAY_SECONDS)


def _logged(error: Exception) -> str:
    """What a log may say of it at any level."""
    return error.logged if isinstance(error, BackendError) else type(error).__name__
