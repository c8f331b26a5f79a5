"""One thread: has what is done delivered, ends jobs that have nothing left, and drops what is old."""

import logging
import threading
import time
from contextlib import suppress

from llm_backend.batches.delivery import TIMEOUT_SECONDS, Delivery
from llm_backend.batches.shared import Shared
from llm_backend.errors import BackendError, StorageError
from llm_backend.storage import Job

_log = logging.getLogger(__name__)
_ROUND_SECONDS = 2.0
_LEASE_SECONDS = 300.0
_RETRY_SECONDS = 15.0
_PRUNE_SECONDS = 600.0
_DAY_SECONDS = 86400.0


class Housekeeping:
    """Every process has one. For each job, one of them has the right to deliver at a time."""

    def __init__(self, shared: Shared, delivery: Delivery) -> None:
        self._shared = shared
        self._jobs = shared.jobs
        self._delivery = delivery
        self._advancing = ""  # the job, while its predictions may be on their way
        self._retry_at: dict[str, float] = {}  # of active jobs, by the monotonic clock
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins, unless it has begun already."""
        with self._lock:
            if self._thread is None and not self._shared.stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
                self._thread.start()

    def close(self, deadline: float) -> bool:
        """Waits for the delivery that is under way until `deadline` of the monotonic clock; whether it ended.

        What is cut off another process repeats a minute later: Label Studio may still be at it until then.
        """
        if self._thread is None:
            return True
        self._thread.join(max(0.0, deadline - time.monotonic()))
        late = self._thread.is_alive()
        if late and self._advancing:
            with suppress(StorageError):
                self._jobs.lease_delivery(self._advancing, self._shared.owner, TIMEOUT_SECONDS, quick=True)
        if not late:
            self._delivery.close()
        return not late

    def _run(self) -> None:
        prune_at = 0.0
        while not self._shared.stopping.wait(_ROUND_SECONDS):
            try:
                if time.monotonic() >= prune_at:
                    self._prune()
                    prune_at = time.monotonic() + _PRUNE_SECONDS
                jobs = self._jobs.active()
            except StorageError as error:
                _log.error("The work list cannot be used: %s", error.logged)
                continue
            self._retry_at = {job.id: self._retry_at.get(job.id, 0.0) for job in jobs}
            for job in jobs:
                if time.monotonic() >= self._retry_at[job.id]:
                    self._try_to_advance(job)

    def _try_to_advance(self, job: Job) -> None:
        """Whatever Label Studio, its client or the database say: what is done stays on the list."""
        try:
            self._advance(job)
        except Exception as error:
            said = error.logged if isinstance(error, BackendError) else type(error).__name__
            _log.error("Delivery for project %s failed, trying again soon: %s", job.project, said)
            _log.debug("The reason: %s", error)
            self._retry_at[job.id] = time.monotonic() + _RETRY_SECONDS

    def _advance(self, job: Job) -> None:
        """One step for a job: delivers what is done, and ends it when nothing is left."""
        if not self._may_deliver(job):
            return
        self._advancing = job.id
        try:
            project = self._delivery.project_of(job)
            while project is not None and not self._shared.stopping.is_set():
                if not self._may_deliver(job):
                    return
                if not self._delivery.deliver_some(project, job):
                    break
            progress = self._jobs.tasks.progress(job.id)
            if not progress.left and not (project is not None and progress.undelivered):
                self._jobs.end_finished(job.id)
        finally:
            self._advancing = ""
            self._jobs.release_delivery(job.id, self._shared.owner)

    def _may_deliver(self, job: Job) -> bool:
        return self._jobs.lease_delivery(job.id, self._shared.owner, _LEASE_SECONDS)

    def _prune(self) -> None:
        settings = self._shared.settings
        self._shared.stored.prune(
            max_age=settings.cache_days * _DAY_SECONDS, max_rows=settings.cache_max_rows
        )
        self._jobs.prune(max_age=_DAY_SECONDS)
