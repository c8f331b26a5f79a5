"""Works off the list: takes tasks by leases, asks side by side, and has the outcomes written.

Every process runs one. It goes on with what a deadline, a crash or a restart has cut off.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from llm_backend.asking.asking import Asking
from llm_backend.asking.completions import Purpose
from llm_backend.asking.shape import Access, Shape, Shapes, shape_from_json
from llm_backend.batches.limiter import Limiter
from llm_backend.errors import (
    UNEXPECTED,
    AuthenticationFailedError,
    BackendError,
    ConnectionFailedError,
    ExtraParamsError,
    LabelingConfigError,
    MissingSettingsError,
    ModelNotFoundError,
    QuotaExhaustedError,
    RateLimitedError,
    StorageError,
)
from llm_backend.operations import logs
from llm_backend.operations.metrics import Metrics
from llm_backend.settings import Settings
from llm_backend.storage import Job, Projects, WorkItem, WorkList
from llm_backend.storage.ledger import Proposal
from llm_backend.storage.work import Outcome
from llm_backend.storage.write_behind import Record, WriteBehind
from llm_backend.values import Completion, Endpoint, Json

_log = logging.getLogger(__name__)

# Nothing that follows can succeed after one of these.
_HOPELESS = (
    AuthenticationFailedError,
    ExtraParamsError,
    LabelingConfigError,
    MissingSettingsError,
    ModelNotFoundError,
    QuotaExhaustedError,
)
_IDLE_SECONDS = 1.0
_PROGRESS_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.05


@dataclass(frozen=True)
class Planned:
    """How a job's tasks are asked."""

    project: str
    shape: Shape
    access: Access
    extra_params: Json


class Worker:
    """One thread that takes tasks, and `max_concurrency` threads that work on them."""

    def __init__(
        self,
        settings: Settings,
        projects: Projects,
        work: WorkList,
        shapes: Shapes,
        asking: Asking,
        writer: WriteBehind,
        metrics: Metrics,
        *,
        owner: str,
        changed: threading.Condition,
        stopping: threading.Event,
    ) -> None:
        self._settings = settings
        self._projects = projects
        self._work = work
        self._shapes = shapes
        self._asking = asking
        self._writer = writer
        self._metrics = metrics
        self._owner = owner
        self._changed = changed
        self._pool = ThreadPoolExecutor(settings.max_concurrency, thread_name_prefix="batch")
        self._limiters: dict[Endpoint, Limiter] = {}
        self._plans: dict[str, Planned] = {}
        self._proven: set[str] = set()  # jobs of which something has succeeded here
        self._taken: dict[str, deque[WorkItem]] = {}
        self._paid: dict[float, list[int]] = {}
        self._under_way: dict[int, WorkItem] = {}  # by row: the tasks that are being worked on
        self._running = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = stopping
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look for work, or looks again at once."""
        with self._lock:
            if (self._thread is None or not self._thread.is_alive()) and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self, deadline: float) -> bool:
        """Takes nothing more, waits for what is under way until `deadline` of the monotonic clock, and gives
        back the rest, so that the next process goes on at once; whether nothing is under way any more.
        """
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        self._give_back_waiting()
        self._pool.shutdown(wait=False, cancel_futures=True)
        while (late := self._items_under_way()) and time.monotonic() < deadline:
            time.sleep(_LOOK_AGAIN_SECONDS)
        if late:
            _log.warning("%d tasks are given back: their completions do not come in time", len(late))
        for item in late:
            self._writer.put(Record(outcome=Outcome(item)))
        return not late

    @contextmanager
    def tokens_paid(self, wanted_until: float) -> Iterator[list[int]]:
        """The tokens, in and out, that this process pays in the block for tasks wanted until just then."""
        self._paid[wanted_until] = paid = [0, 0]
        try:
            yield paid
        finally:
            self._paid.pop(wanted_until, None)

    def _run(self) -> None:
        said_at = renewed_at = time.monotonic()
        while not self._closing.is_set():
            self._wake.clear()
            try:
                jobs = self._work.active_jobs()
                if time.monotonic() - renewed_at > self._settings.lease_seconds / 3:
                    renewed_at = time.monotonic()
                    self._renew()  # before anything is taken: what has run out here must not be taken twice
                if self._writer.is_stuck:  # others may take what waits here, when they can write
                    self._give_back_waiting()
                else:
                    self._take(jobs)
                if jobs and time.monotonic() - said_at > _PROGRESS_SECONDS:
                    said_at = time.monotonic()
                    self._say_progress(jobs)
            except StorageError as error:
                _log.error("The work list cannot be used: %s", error.logged)
            except Exception:
                _log.exception("Unexpected error while taking tasks")
            self._start_runners()
            self._wake.wait(self._seconds_to_wait())
        self._give_back_waiting()

    def _take(self, jobs: list[Job]) -> None:
        """Leases as much as keeps all threads busy for a while, a fair share of each job."""
        active = {job.id for job in jobs}
        with self._lock:
            ended = [job_id for job_id in self._taken if job_id not in active]
        self._give_back(ended)
        enough = 2 * self._settings.max_concurrency
        for job in jobs:
            with self._lock:
                here = len(self._taken.setdefault(job.id, deque()))
            room = -(-enough // len(jobs)) - here
            if room < enough // (2 * len(jobs)) or self._plan(job) is None:
                continue
            leased = self._work.lease(job.id, self._owner, room, self._settings.lease_seconds)
            with self._lock:
                self._taken[job.id].extend(leased)

    def _renew(self) -> None:
        """Keeps the leases of what waits here and of what is under way, and of nothing else."""
        with self._lock:
            rows = [item.row for items in self._taken.values() for item in items]
            rows += self._under_way
        if rows:
            self._work.renew(self._owner, rows, self._settings.lease_seconds)

    def _start_runners(self) -> None:
        with self._lock:
            waiting = sum(map(len, self._taken.values()))
            for _ in range(min(waiting, self._settings.max_concurrency - self._running)):
                self._running += 1
                self._pool.submit(self._work_on)

    def _seconds_to_wait(self) -> float:
        pauses = [limiter.seconds_to_wait() for limiter in self._limiters.values()]
        return min([_IDLE_SECONDS, *(pause for pause in pauses if pause > 0)])

    def _work_on(self) -> None:
        """One thread: item after item, until there is none that may start."""
        try:
            while (begun := self._begin()) is not None:
                plan, limiter, item = begun
                with logs.context(batch=item.job_id, task=item.task_id):
                    self._one(plan, limiter, item)
        except Exception:
            _log.exception("Unexpected error in a batch")
        finally:
            with self._lock:
                self._running -= 1

    def _begin(self) -> tuple[Planned, Limiter, WorkItem] | None:
        """The next item whose endpoint has room; jobs take turns."""
        with self._lock:
            if self._closing.is_set() or self._writer.is_stuck:
                return None
            for job_id in list(self._taken):
                items, plan = self._taken[job_id], self._plans.get(job_id)
                if not items or plan is None:
                    continue
                limiter = self._limiters[plan.access.endpoint]
                if not limiter.start():
                    continue
                item = items.popleft()
                self._under_way[item.row] = item
                self._taken[job_id] = self._taken.pop(job_id)  # to the end of the line
                if len(items) <= self._settings.max_concurrency // 2:
                    self._wake.set()
                return plan, limiter, item
            return None

    def _one(self, plan: Planned, limiter: Limiter, item: WorkItem) -> None:
        """One task, from its data to a written outcome."""
        completion = Completion(())
        proposal: Proposal | None = None
        hopeless: BackendError | None = None
        try:
            task: Json = {"id": item.task_id, "data": item.data}
            predicted = self._asking.predict(
                plan.shape, plan.access, task, purpose=Purpose.BATCH, project=plan.project
            )
        except RateLimitedError as error:
            limiter.refused(error.retry_after)
            outcome = Outcome(item)
        except StorageError as error:
            limiter.failed()
            _log.error("Task %s waits for the database: %s", item.task_id, error.logged)
            outcome = Outcome(item)
            time.sleep(_IDLE_SECONDS)
        except ConnectionFailedError as error:
            limiter.refused(None)
            outcome = Outcome(item)
            hopeless = None if self._has_worked(item.job_id) else error
        except _HOPELESS as error:
            limiter.failed()
            outcome = Outcome(item)
            hopeless = error
        except BackendError as error:
            limiter.failed()
            self._metrics.task(error.code)
            _log.warning("Task %s has no prediction: %s", item.task_id, error.logged)
            _log.debug("The reason: %s", error.reason)
            outcome = Outcome(item, code=error.code, reason=error.reason)
        except Exception:
            limiter.failed()
            self._metrics.task("internal_error")
            _log.exception("Unexpected error with task %s", item.task_id)
            outcome = Outcome(item, code="internal_error", reason=UNEXPECTED)
        else:
            limiter.succeeded()
            completion, proposal = predicted.completion, predicted.proposal
            self._proven.add(item.job_id)
            tokens = completion.prompt_tokens + completion.completion_tokens
            outcome = Outcome(item, predicted.prediction, tokens)
        with self._lock:
            paid = self._paid.get(item.wanted_until, [0, 0])
            paid[0] += completion.prompt_tokens
            paid[1] += completion.completion_tokens
        self._writer.put(Record(proposal=proposal, outcome=outcome))
        with self._lock:
            self._under_way.pop(item.row, None)
        if hopeless is not None:
            self._give_up(item.job_id, hopeless, item.taken_at)

    def _has_worked(self, job_id: str) -> bool:
        """Whether something of the job has succeeded, here or elsewhere: then it is worth another try."""
        if job_id not in self._proven:
            try:
                if not self._work.progress(job_id).done:
                    return False
            except StorageError:
                return True
            self._proven.add(job_id)
        return True

    def _plan(self, job: Job) -> Planned | None:
        """How the job's tasks are asked; when that cannot be, the job ends."""
        planned = self._plans.get(job.id)
        if planned is None or planned.extra_params != job.extra_params:
            try:
                access = self._shapes.access(job.project, self._projects.get(job.project), job.extra_params)
                shape = (
                    shape_from_json(job.shape)
                    if job.shape
                    else self._shapes.shape(job.label_config, job.extra_params, job.prompt)
                )
                if not access.reaches(shape):
                    raise MissingSettingsError("The server's settings have changed: start the batch again")
            except BackendError as error:
                self._give_up(job.id, error, self._work.now())
                return None
            self._limiters.setdefault(access.endpoint, Limiter(self._settings.max_concurrency))
            self._plans[job.id] = Planned(job.project, shape, access, job.extra_params)
        return self._plans[job.id]

    def _give_up(self, job_id: str, error: BackendError, learnt_at: float) -> None:
        """Ends a job in which nothing can succeed, unless somebody has asked for it again since."""
        try:
            ended = self._work.end(
                job_id, "failed", code=error.code, reason=error.reason, submitted_before=learnt_at
            )
        except StorageError:  # the next task will find the same
            return
        if ended:
            _log.error("The batch %s stops: %s", job_id, error.logged)
            _log.debug("The reason: %s", error.reason)
        with self._changed:
            self._changed.notify_all()

    def _give_back(self, job_ids: list[str]) -> None:
        """Ends the leases of tasks that have not begun, and forgets the jobs."""
        for job_id in job_ids:
            with self._lock:
                items = self._taken.pop(job_id, ())
                self._plans.pop(job_id, None)
            self._proven.discard(job_id)
            for item in items:
                self._writer.put(Record(outcome=Outcome(item)))

    def _give_back_waiting(self) -> None:
        with self._lock:
            waiting = list(self._taken)
        self._give_back(waiting)

    def _items_under_way(self) -> list[WorkItem]:
        with self._lock:
            return list(self._under_way.values())

    def _say_progress(self, jobs: list[Job]) -> None:
        for job in jobs:
            progress = self._work.progress(job.id)
            _log.info(
                "Batch %s of project %s: %d done, %d failed, %d left, %.1f a second",
                job.id, job.project, progress.done, progress.failed, progress.left, progress.per_second,
            )  # fmt: skip
