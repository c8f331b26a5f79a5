"""Brings Label Studio, through its API, the predictions that were not done in time for the response."""

import logging
from collections.abc import Sequence

from llm_backend.batches.shared import Shared
from llm_backend.errors import BackendError
from llm_backend.label_studio.client import LabelStudioError, client_of
from llm_backend.label_studio.expiring import Expiring
from llm_backend.label_studio.project_key import ProjectKey, parse_key
from llm_backend.storage import Job
from llm_backend.storage.tasks import DoneTask

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 200
_LOOK_AGAIN_SECONDS = 300.0
_MOST_PROJECTS = 1000
_REFUSALS = (400, 404, 422)
TIMEOUT_SECONDS = 60


class LabelStudioRefusedError(BackendError):
    """Label Studio answered a delivery with 4xx."""

    code = "delivery"


class Delivery:
    """Delivers the predictions of one job after the other."""

    def __init__(self, shared: Shared) -> None:
        self._settings = shared.settings
        self._jobs = shared.jobs
        self._label_studio = client_of(shared.settings, timeout=TIMEOUT_SECONDS)
        self._is_there: Expiring[ProjectKey, bool] = Expiring(_MOST_PROJECTS)

    def close(self) -> None:
        """Closes the connections to Label Studio."""
        self._label_studio.close()

    def project_of(self, job: Job) -> int | None:
        """The id of the job's project, or None where this Label Studio does not have just this project.

        Several Label Studios may share a backend, and ids repeat.
        """
        key, settings = parse_key(job.project), self._settings
        if key is None or settings.label_studio_url is None or settings.label_studio_api_key is None:
            return None
        is_there = self._is_there.get(key)
        if is_there is None:
            is_there = self._label_studio.has_project(key)
            self._is_there.put(key, is_there, _LOOK_AGAIN_SECONDS)
            if not is_there:
                _log.warning("Project %s is not in this Label Studio; its batch is only cached", job.project)
        return key.id if is_there else None

    def deliver_some(self, project: int, job: Job) -> int:
        """Delivers some of the predictions that are done; how many. Only with the right to deliver."""
        done = self._jobs.take_for_delivery(job.id, _MOST_AT_ONCE)
        if done:
            self._deliver(project, job, done)
            _log.info("Batch %s: %d predictions delivered to Label Studio", job.id, len(done))
        return len(done)

    def _deliver(self, project: int, job: Job, done: Sequence[DoneTask]) -> None:
        """Imports the predictions of tasks that have none of this model version yet.

        One unknown task fails a whole call, so a refused call is halved until the culprit is found.
        """
        by_version: dict[str, list[int]] = {}  # a batch that goes on after an update has two versions
        for task in done:
            if task.task_id is not None:
                by_version.setdefault(_version_of(task, job), []).append(task.task_id)
        has_one = {
            (version, task_id)
            for version, wanted in by_version.items()
            for task_id in self._label_studio.tasks_with_version(project, wanted, version)
        }
        new = [
            task
            for task in done
            if task.task_id is not None and (_version_of(task, job), task.task_id) not in has_one
        ]
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
                self._jobs.tasks.undeliverable([new[0].row], refused.code, refused.reason)
                _log.warning("Label Studio refuses the prediction of task %s", new[0].task_id)
                _log.debug("The reason: %s", refused.reason)
            else:
                self._deliver(project, job, new[: len(new) // 2])
                self._deliver(project, job, new[len(new) // 2 :])
        self._jobs.tasks.delivered([task.row for task in done])


def _version_of(task: DoneTask, job: Job) -> str:
    return str(task.prediction.get("model_version") or job.model_version)
