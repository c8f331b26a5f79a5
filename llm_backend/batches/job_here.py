"""The jobs that are worked on in this process: what is known of each, and whose turn it is."""

import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from llm_backend.asking.shape import Access, Shape
from llm_backend.batches.limiter import Limiter
from llm_backend.storage import WorkItem
from llm_backend.values import Completion


@dataclass(slots=True)
class Paid:
    """The tokens that this process pays for the tasks of one request."""

    identities: frozenset[str]
    tokens_in: int = 0
    tokens_out: int = 0


@dataclass(slots=True)
class Work:
    """How the tasks of a job are worked on since it was submitted last."""

    project: str
    shape: Shape
    access: Access
    limiter: Limiter
    submitted_at: float


@dataclass(slots=True)
class JobHere:
    """One job. `JobsHere` guards what changes in it. `work` is None until a task of it is taken here."""

    id: str
    work: Work | None = None
    has_succeeded: bool = False  # some task of it, here or elsewhere
    has_asked: bool = False  # for more tasks, of which few wait here; or the list has no others
    waiting: deque[WorkItem] = field(default_factory=deque)
    under_way: dict[int, WorkItem] = field(default_factory=dict)  # by row
    requests: dict[str, Paid] = field(default_factory=dict)  # by the request's id, the latest last


class JobsHere:
    """All of them. Thread-safe. A job leaves when it has ended and nothing of it is left here."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[str, JobHere] = {}  # in turn

    def of(self, job_id: str) -> JobHere:
        """The job; it is here from now on."""
        with self._lock:
            return self._jobs.setdefault(job_id, JobHere(job_id))

    @contextmanager
    def counting(self, job_id: str, request_id: str, identities: Iterable[str]) -> Iterator[Paid]:
        """Counts what is paid in the block for these tasks of the job, on behalf of the request."""
        paid = Paid(frozenset(identities))
        with self._lock:
            self._jobs.setdefault(job_id, JobHere(job_id)).requests[request_id] = paid
        try:
            yield paid
        finally:
            with self._lock:
                self._jobs[job_id].requests.pop(request_id)

    def add(self, here: JobHere, items: Sequence[WorkItem], *, are_all: bool) -> None:
        """Adds tasks that have been leased; `are_all`: there are no others for now."""
        with self._lock:
            here.waiting.extend(items)
            here.has_asked = are_all

    def begin(self, low: int) -> tuple[JobHere, Work, WorkItem, bool] | None:
        """The next task whose endpoint has room; jobs take turns. None if there is none.

        The last value says that now `low` tasks of its job or fewer wait here; it does so once.
        """
        with self._lock:
            for here in self._jobs.values():
                if not here.waiting or here.work is None or not here.work.limiter.start():
                    continue
                item = here.waiting.popleft()
                here.under_way[item.row] = item
                self._jobs[here.id] = self._jobs.pop(here.id)  # to the end of the line
                is_low = len(here.waiting) <= low and not here.has_asked
                here.has_asked |= is_low
                return here, here.work, item, is_low
            return None

    def ended(self, here: JobHere, item: WorkItem) -> None:
        """The task is not under way any more: its outcome will be written."""
        with self._lock:
            here.under_way.pop(item.row, None)

    def count(self, here: JobHere, item: WorkItem, completion: Completion) -> int:
        """Adds what was paid for the task to the latest request that asks for it; all tokens, in and out."""
        with self._lock:
            for paid in reversed(here.requests.values()):
                if item.identity in paid.identities:
                    paid.tokens_in += completion.prompt_tokens
                    paid.tokens_out += completion.completion_tokens
                    break
        return completion.prompt_tokens + completion.completion_tokens

    def take_back(self, but: Collection[str] = ()) -> list[WorkItem]:
        """The tasks that wait here, of all jobs `but` those with these ids. Such jobs leave."""
        with self._lock:
            ended = [here for here in self._jobs.values() if here.id not in but]
            items = [item for here in ended for item in here.waiting]
            for here in ended:
                here.waiting.clear()
                here.work, here.has_succeeded = None, False
                if not here.under_way and not here.requests:
                    del self._jobs[here.id]
            return items

    def rows(self) -> list[int]:
        """The rows of all tasks that wait here or are under way."""
        with self._lock:
            waiting = [item.row for here in self._jobs.values() for item in here.waiting]
            return waiting + [row for here in self._jobs.values() for row in here.under_way]

    def under_way(self) -> list[WorkItem]:
        """All tasks that are under way."""
        with self._lock:
            return [item for here in self._jobs.values() for item in here.under_way.values()]

    def waiting(self) -> int:
        """How many tasks wait here."""
        with self._lock:
            return sum(len(here.waiting) for here in self._jobs.values())

    def seconds_to_wait(self) -> list[float]:
        """For how long the endpoints of the jobs want to be left alone, where they do."""
        with self._lock:
            limiters = [here.work.limiter for here in self._jobs.values() if here.work]
        return [pause for limiter in limiters if (pause := limiter.seconds_to_wait()) > 0]
