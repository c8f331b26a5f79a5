"""Works off the list: takes tasks by leases, asks side by side, and queues the outcomes to be written.

Every process runs one. It goes on with what a deadline, a crash or a restart has cut off.
"""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from llm_backend.asking.completions import Purpose
from llm_backend.asking.shape import shape_from_json
from llm_backend.batches.job_here import JobHere, JobsHere, Work
from llm_backend.batches.limiter import Limiters
from llm_backend.batches.outcomes import ForJob, Meaning, meaning_of
from llm_backend.batches.shared import Shared
from llm_backend.errors import UNEXPECTED, BackendError, MissingSettingsError, StorageError
from llm_backend.operations import logs
from llm_backend.storage import Job, JobChange, Outcome, WorkItem
from llm_backend.storage.write_behind import Record

_log = logging.getLogger(__name__)
_IDLE_SECONDS = 1.0
_PROGRESS_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.05


class Runner:
    """One thread that takes tasks, and `max_concurrency` threads that work on them."""

    def __init__(self, shared: Shared, here: JobsHere) -> None:
        self._shared = shared
        self._jobs_here = here
        self._concurrency = shared.settings.max_concurrency
        self._lease_seconds = shared.settings.lease_seconds
        self._limiters = Limiters(self._concurrency)
        self._pool = ThreadPoolExecutor(self._concurrency, thread_name_prefix="batch")
        self._running = 0
        self._low = 0  # so few tasks of a job that wait here are too few
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look for work, or looks again at once."""
        with self._lock:
            is_alive = self._thread is not None and self._thread.is_alive()
            if not is_alive and not self._shared.stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="runner", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self, deadline: float) -> bool:
        """Waits for what is under way until `deadline` of the monotonic clock, and gives back the rest.

        The next process then goes on at once. Whether all has ended. `stopping` must be set.
        """
        self._wake.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._give_back(self._jobs_here.take_back())
        self._pool.shutdown(wait=False, cancel_futures=True)
        while (late := self._jobs_here.under_way()) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        if late:
            _log.warning("%d tasks are given back: their completions do not come in time", len(late))
        self._give_back(late)
        return not late

    def _run(self) -> None:
        said_at = renewed_at = time.monotonic()
        while not self._shared.stopping.is_set():
            self._wake.clear()
            try:
                jobs = self._shared.jobs.active()
                if time.monotonic() - renewed_at > self._lease_seconds / 3:
                    renewed_at = time.monotonic()
                    self._renew()  # before anything is taken: what has run out here must not be taken twice
                if self._shared.writer.is_stuck:  # others may take what waits here, when they can write
                    self._give_back(self._jobs_here.take_back())
                else:
                    self._take(jobs)
                if jobs and time.monotonic() - said_at > _PROGRESS_SECONDS:
                    said_at = time.monotonic()
                    self._say_progress(jobs)
            except StorageError as error:
                _log.error("The work list cannot be used: %s", error.logged)
            except Exception:
                _log.exception("Unexpected error while taking tasks")
            self._start_threads()
            self._wake.wait(min([_IDLE_SECONDS, *self._jobs_here.seconds_to_wait()]))
        self._give_back(self._jobs_here.take_back())

    def _take(self, jobs: list[Job]) -> None:
        """Leases as much as keeps all threads busy for a while, a fair share of each job."""
        self._give_back(self._jobs_here.take_back(but={job.id for job in jobs}))
        share = -(-2 * self._concurrency // max(1, len(jobs)))
        self._low = share // 4
        for job in jobs:
            here = self._jobs_here.of(job.id)
            room = share - len(here.waiting)
            leased: list[WorkItem] = []
            if is_worth_it := room >= max(1, share // 2) and self._can_work_on(here, job):
                leased = self._shared.jobs.tasks.lease(job.id, self._shared.owner, room, self._lease_seconds)
            self._jobs_here.add(here, leased, are_all=is_worth_it and len(leased) < room)

    def _renew(self) -> None:
        """Keeps the leases of what waits here and of what is under way, and of nothing else."""
        rows = self._jobs_here.rows()
        if rows:
            self._shared.jobs.tasks.renew(self._shared.owner, rows, self._lease_seconds)

    def _start_threads(self) -> None:
        waiting = self._jobs_here.waiting()
        with self._lock:
            for _ in range(min(waiting, self._concurrency - self._running)):
                self._running += 1
                self._pool.submit(self._work)

    def _work(self) -> None:
        """One thread: task after task, until there is none that may start."""
        try:
            while not self._shared.stopping.is_set() and not self._shared.writer.is_stuck:
                begun = self._jobs_here.begin(self._low)
                if begun is None:
                    break
                here, work, item, is_low = begun
                if is_low:
                    self._wake.set()
                with logs.context(batch=item.job_id, task=item.task_id):
                    self._work_on(here, work, item)
        except Exception:
            _log.exception("Unexpected error in a batch")
        finally:
            with self._lock:
                self._running -= 1

    def _work_on(self, here: JobHere, work: Work, item: WorkItem) -> None:
        """One task, from its data to an outcome that will be written."""
        failure: BackendError | None = None
        try:
            predicted = self._shared.asking.predict(
                work.shape,
                work.access,
                {"id": item.task_id, "data": item.data},
                purpose=Purpose.BATCH,
                project=work.project,
            )
        except Exception as error:
            failure = error if isinstance(error, BackendError) else BackendError(UNEXPECTED)
            meaning = meaning_of(failure)
            if failure is not error:
                _log.exception("Unexpected error with task %s", item.task_id)
            if meaning.slows_down:
                work.limiter.refused(getattr(failure, "retry_after", None))
            else:
                work.limiter.failed()
            record = Record(outcome=self._failed(item, failure, meaning))
        else:
            work.limiter.succeeded()
            here.has_succeeded = True
            tokens = self._jobs_here.count(here, item, predicted.completion)
            record = Record(proposal=predicted.proposal, outcome=Outcome(item, predicted.prediction, tokens))
        self._shared.writer.put(record)
        self._jobs_here.ended(here, item)
        if failure is not None and self._ends(here, meaning):
            self._give_up(item.job_id, failure, item.taken_at)

    def _failed(self, item: WorkItem, failure: BackendError, meaning: Meaning) -> Outcome:
        """The failure as the task's outcome, or that the task is given back."""
        if meaning.rest_seconds:
            _log.error("Task %s waits: %s", item.task_id, failure.logged)
            time.sleep(meaning.rest_seconds)
        if not meaning.task_fails:
            return Outcome(item)
        self._shared.metrics.task(failure.code)
        _log.warning("Task %s has no prediction: %s", item.task_id, failure.logged)
        _log.debug("The reason: %s", failure.reason)
        return Outcome(item, code=failure.code, reason=failure.reason)

    def _ends(self, here: JobHere, meaning: Meaning) -> bool:
        """Whether the error ends the job. Something that has succeeded elsewhere counts, too."""
        if meaning.job is not ForJob.ENDS_IF_NOTHING_HAS_SUCCEEDED:
            return meaning.job is ForJob.ENDS
        if not here.has_succeeded:
            try:
                here.has_succeeded = self._shared.jobs.tasks.progress(here.id).done > 0
            except StorageError:
                return False
        return not here.has_succeeded

    def _can_work_on(self, here: JobHere, job: Job) -> bool:
        """Whether the job can be worked on, as it was submitted last; if not, it ends."""
        if here.work is not None and here.work.submitted_at == job.submitted_at:
            return True
        try:
            known = self._shared.projects.get(job.project)
            access = self._shared.shapes.access(job.project, known, job.extra_params)
            shape = (
                shape_from_json(job.shape)
                if job.shape
                else self._shared.shapes.shape(job.label_config, job.extra_params, job.prompt)
            )
            if not access.reaches(shape):
                raise MissingSettingsError("The server's settings have changed: start the batch again")
        except BackendError as error:
            self._give_up(job.id, error, self._shared.jobs.now())
            return False
        limiter = self._limiters.of(access.endpoint)
        here.work = Work(job.project, shape, access, limiter, job.submitted_at)
        return True

    def _give_up(self, job_id: str, error: BackendError, learnt_at: float) -> None:
        """Ends a job in which nothing can succeed, unless somebody has asked for it again since."""
        try:
            ended = self._shared.jobs.end(
                job_id, JobChange.FAILED, code=error.code, reason=error.reason, submitted_before=learnt_at
            )
        except StorageError:  # the next task will find the same
            return
        if ended:
            _log.error("The batch %s stops: %s", job_id, error.logged)
            _log.debug("The reason: %s", error.reason)
        self._shared.changed.tell()

    def _give_back(self, items: list[WorkItem]) -> None:
        """Ends the leases of these tasks."""
        for item in items:
            self._shared.writer.put(Record(outcome=Outcome(item)))

    def _say_progress(self, jobs: list[Job]) -> None:
        for job in jobs:
            progress = self._shared.jobs.tasks.progress(job.id)
            _log.info(
                "Batch %s of project %s: %d done, %d failed, %d left, %.1f a second",
                job.id, job.project, progress.done, progress.failed, progress.left, progress.per_second,
            )  # fmt: skip
