"""Brings Label Studio, through its API, the predictions that were not done in time for the response."""

import json
import logging
from collections.abc import Container, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llm_backend.batches.shared import Shared
from llm_backend.errors import BackendError
from llm_backend.storage import Job
from llm_backend.storage.tasks import DoneTask

if TYPE_CHECKING:
    from label_studio_sdk.client import LabelStudio

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 200
TIMEOUT_SECONDS = 60


class LabelStudioRefusedError(BackendError):
    """Label Studio answered a delivery with 4xx."""

    code = "delivery"


class Delivery:
    """The predictions of one job after the other."""

    def __init__(self, shared: Shared) -> None:
        self._settings = shared.settings
        self._jobs = shared.jobs
        self._client: LabelStudio | None = None
        self._matching: dict[str, bool] = {}  # active jobs

    def project_of(self, job: Job) -> int | None:
        """The id of the job's project, or None where this Label Studio does not have just this project.

        Several Label Studios may share a backend, and ids repeat.
        """
        if self._settings.label_studio_url is None or self._settings.label_studio_api_key is None:
            return None
        if job.id not in self._matching:
            self._matching[job.id] = self._has_project(job.project)
            if not self._matching[job.id]:
                _log.warning("Project %s is not in this Label Studio; its batch is only cached", job.project)
        return int(job.project.partition(".")[0]) if self._matching[job.id] else None

    def forget_all_but(self, job_ids: Container[str]) -> None:
        """Keeps what is known of these jobs only."""
        self._matching = {job_id: known for job_id, known in self._matching.items() if job_id in job_ids}

    def deliver_some(self, project: int, job: Job) -> int:
        """Delivers some of the predictions that are done; how many. Only with the right to deliver."""
        done = self._jobs.take_for_delivery(job.id, _MOST_AT_ONCE)
        if done:
            self._deliver(project, job, done)
            _log.info("Batch %s: %d predictions delivered to Label Studio", job.id, len(done))
        return len(done)

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

    def _deliver(self, project: int, job: Job, done: Sequence[DoneTask]) -> None:
        """Imports the predictions of tasks that have none of this model version yet.

        One unknown task fails a whole call, so a refused call is halved until the culprit is found.
        """
        from label_studio_sdk.core.api_error import ApiError

        has_one = self._tasks_with_version(project, [task.task_id for task in done], job.model_version)
        new = [task for task in done if task.task_id is not None and task.task_id not in has_one]
        try:
            if new:
                predictions: Any = [{"task": task.task_id, **task.prediction} for task in new]
                self._connected().projects.import_predictions(
                    id=project, request=predictions, request_options={"timeout_in_seconds": TIMEOUT_SECONDS}
                )
        except ApiError as error:
            if error.status_code not in (400, 404, 422):
                raise
            if len(new) == 1:
                refused = LabelStudioRefusedError(f"Label Studio refuses the prediction: {error.body}"[:500])
                self._jobs.tasks.undeliverable([new[0].row], refused.code, refused.reason)
                _log.warning("Label Studio refuses the prediction of task %s", new[0].task_id)
                _log.debug("The reason: %s", refused.reason)
                new = []
            else:
                self._deliver(project, job, new[: len(new) // 2])
                self._deliver(project, job, new[len(new) // 2 :])
        self._jobs.tasks.delivered([task.row for task in done])

    def _tasks_with_version(self, project: int, task_ids: Sequence[int | None], version: str) -> set[int]:
        """Those of the tasks that have a prediction of this model version by now."""
        wanted = [task_id for task_id in task_ids if task_id is not None]
        query = {"selectedItems": {"all": False, "included": wanted}}
        tasks: Any = self._connected().tasks.list(
            project=project,
            fields="all",
            query=json.dumps(query),
            page_size=_MOST_AT_ONCE,
            request_options={"timeout_in_seconds": TIMEOUT_SECONDS},
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


def logged(error: Exception) -> str:
    """What a log may say at any level: what Label Studio answers may repeat a prediction."""
    if isinstance(error, BackendError):
        return error.logged
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__} ({status})" if status else type(error).__name__


def _version(prediction: Any) -> str | None:
    return prediction.get("model_version") if isinstance(prediction, dict) else None
