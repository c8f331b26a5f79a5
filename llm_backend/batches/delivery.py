"""Brings Label Studio, through its API, the predictions that were not done in time for the response."""

import json
import logging
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llm_backend.errors import BackendError, StorageError
from llm_backend.settings import Settings
from llm_backend.storage import Job, StoredCompletions, WorkList
from llm_backend.storage.work import DoneTask

if TYPE_CHECKING:
    from label_studio_sdk.client import LabelStudio

_log = logging.getLogger(__name__)
_ROUND_SECONDS = 2.0
_MOST_AT_ONCE = 200
_LEASE_SECONDS = 300.0
_TIMEOUT_SECONDS = 60
_RETRY_SECONDS = 15.0
_PRUNE_SECONDS = 600.0
_DAY_SECONDS = 86400.0


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
        self._client: LabelStudio | None = None
        self._matching: dict[str, bool] = {}
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
            wanted = self._is_wanted(job)
            while wanted and not self._closing.is_set():
                if not self._work.lease_delivery(job.id, self._owner, _LEASE_SECONDS):
                    return
                done = self._work.take_for_delivery(job.id, _MOST_AT_ONCE)
                if not done:
                    break
                self._deliver(job, done)
                _log.info("Batch %s: %d predictions delivered to Label Studio", job.id, len(done))
            progress = self._work.progress(job.id)
            if not progress.left and not (wanted and progress.undelivered):
                self._work.end_finished(job.id)
        finally:
            self._advancing = ""
            self._work.release_delivery(job.id, self._owner)

    def _is_wanted(self, job: Job) -> bool:
        """Whether that Label Studio has just this project: several may share a backend, and ids repeat."""
        if self._settings.label_studio_url is None or self._settings.label_studio_api_key is None:
            return False
        if job.project not in self._matching:
            self._matching[job.project] = self._has_project(job.project)
            if not self._matching[job.project]:
                _log.warning("Project %s is not in this Label Studio; its batch is only cached", job.project)
        return self._matching[job.project]

    def _has_project(self, project: str) -> bool:
        from label_studio_sdk.core.api_error import ApiError

        number, _, created = project.partition(".")
        if not number.isdigit() or not created.isdigit():
            return False
        try:
            found = self._connected().projects.get(id=int(number))
        except ApiError as error:
            if error.status_code in (403, 404):
                return False
            raise
        at = found.created_at
        return isinstance(at, datetime) and int(at.timestamp()) == int(created)

    def _deliver(self, job: Job, done: Sequence[DoneTask]) -> None:
        """Imports the predictions of tasks that have none of this model version yet.

        One unknown task fails a whole call, so a refused call is halved until the culprit is found.
        """
        from label_studio_sdk.core.api_error import ApiError

        project = int(job.project.partition(".")[0])
        has_one = self._tasks_with_version(project, [task.task_id for task in done], job.model_version)
        new = [task for task in done if task.task_id is not None and task.task_id not in has_one]
        try:
            if new:
                predictions: Any = [{"task": task.task_id, **task.prediction} for task in new]
                self._connected().projects.import_predictions(
                    id=project, request=predictions, request_options={"timeout_in_seconds": _TIMEOUT_SECONDS}
                )
        except ApiError as error:
            if error.status_code not in (400, 404, 422):
                raise
            if len(new) == 1:
                refused = LabelStudioRefusedError(f"Label Studio refuses the prediction: {error.body}"[:500])
                self._work.undeliverable([new[0].row], refused.code, refused.reason)
                _log.warning("Label Studio refuses the prediction of task %s", new[0].task_id)
                _log.debug("The reason: %s", refused.reason)
                new = []
            else:
                self._deliver(job, new[: len(new) // 2])
                self._deliver(job, new[len(new) // 2 :])
        self._work.delivered([task.row for task in done])

    def _tasks_with_version(self, project: int, task_ids: Sequence[int | None], version: str) -> set[int]:
        """Those of the tasks that have a prediction of this model version by now."""
        wanted = [task_id for task_id in task_ids if task_id is not None]
        query = {"selectedItems": {"all": False, "included": wanted}}
        tasks: Any = self._connected().tasks.list(
            project=project,
            fields="all",
            query=json.dumps(query),
            page_size=_MOST_AT_ONCE,
            request_options={"timeout_in_seconds": _TIMEOUT_SECONDS},
        )
        found = (task.model_dump() for task in tasks)
        return {
            task["id"]
            for task in found
            if any(_version(prediction) == version for prediction in task.get("predictions") or ())
        }

    def _connected(self) -> "LabelStudio":
        if self._client is None:
            from label_studio_sdk.client import LabelStudio  # tens of megabytes, for those who use it

            key = self._settings.label_studio_api_key
            self._client = LabelStudio(
                base_url=f"{self._settings.label_studio_url}/",  # below a path, tokens need the slash
                api_key=key.get_secret_value() if key else "",
            )
        return self._client

    def _prune(self) -> None:
        self._stored.prune(
            max_age=self._settings.cache_days * _DAY_SECONDS, max_rows=self._settings.cache_max_rows
        )
        self._work.prune(max_age=_DAY_SECONDS)


def _logged(error: Exception) -> str:
    """What a log may say at any level: what Label Studio answers may repeat a prediction."""
    if isinstance(error, BackendError):
        return error.logged
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__} ({status})" if status else type(error).__name__


def _version(prediction: Any) -> str | None:
    return prediction.get("model_version") if isinstance(prediction, dict) else None
