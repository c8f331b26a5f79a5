"""Stores what was paid for as soon as it arrives; what arrived together, in one transaction."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from llm_backend.errors import StorageError
from llm_backend.storage.completions import KeyedReply, StoredCompletions
from llm_backend.storage.database import Database
from llm_backend.storage.faults import RefusedValueError, RestartNeededError
from llm_backend.storage.ledger import Ledger, Payment, Proposal
from llm_backend.storage.tasks import Outcome, Tasks

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 256
_MOST_WAITING = 5000
_SECONDS_BETWEEN_TRIES = 1.0
_TRIES_BETWEEN_WORDS = 10
_LAST_TRY_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Record:
    """What one completion leaves, each part where there is one.

    `outcome` is that of a task of a batch.
    """

    replies: tuple[KeyedReply, ...] = ()
    payment: Payment | None = None
    proposal: Proposal | None = None
    outcome: Outcome | None = None


class WriteBehind:
    """A queue of records, and the thread that stores them. The first record starts the thread."""

    def __init__(
        self,
        database: Database,
        completions: StoredCompletions,
        ledger: Ledger,
        tasks: Tasks,
        *,
        owner: str,
        on_written: Callable[[], None],
    ) -> None:
        self._database = database
        self._completions = completions
        self._ledger = ledger
        self._tasks = tasks
        self._owner = owner
        self._on_written = on_written
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline = float("inf")  # after which nothing is tried again
        self._failure: StorageError | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether the database takes nothing, so that nothing more must be paid for.

        From the first write that fails until the queue is empty.
        """
        return self._failure is not None

    def check(self) -> None:
        """Lets nobody wait for what cannot be written.

        Raises:
            RestartNeededError: the database takes nothing until the next start.
        """
        if isinstance(self._failure, RestartNeededError):
            raise self._failure

    def put(self, record: Record) -> None:
        """Queues the record; the writer thread stores it.

        While the database takes nothing, a batch asks for no more, but people go on. Of their records, which
        they have seen the answers of, only the first 5,000 are kept.
        """
        if self.is_stuck and record.outcome is None and self._queue.qsize() >= _MOST_WAITING:
            _log.error("A completion that a person has got is not kept: too many wait for the database")
            return
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="write-behind", daemon=True)
                self._thread.start()
        self._queue.put(record)

    def close(self, deadline: float) -> bool:
        """Stores what is left, until `deadline` of the monotonic clock; whether the thread has ended."""
        self._deadline = deadline
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is None:
            return True
        self._queue.put(None)
        thread.join(max(0.0, deadline - time.monotonic()) + _LAST_TRY_SECONDS)
        return not thread.is_alive()

    def _run(self) -> None:
        while True:
            first = self._queue.get()
            records = [first] if first else []
            while first and len(records) < _MOST_AT_ONCE:
                try:
                    record = self._queue.get_nowait()
                except queue.Empty:
                    break
                if record is None:
                    first = None
                else:
                    records.append(record)
            self._write(records)
            if self._queue.empty():
                self._failure = None
            if first is None:
                return

    def _write(self, records: list[Record]) -> None:
        """Tries again and again: what is in memory alone would be paid for again after a crash."""
        tries = 0
        while records:
            try:
                with self._database.writing(quick=True) as connection:
                    self._put_all(connection, records)
                break
            except RefusedValueError as error:
                _log.error("A completion cannot be written: %s", error.logged)
                self._write_one_by_one(records)
                return
            except StorageError as error:
                self._failure = error
                waiting = len(records) + self._queue.qsize()
                is_hopeless = isinstance(error, RestartNeededError) and self._closing.is_set()
                if is_hopeless or time.monotonic() > self._deadline:
                    _log.error("%d completions are lost with this process: %s", waiting, error.logged)
                    return
                if tries % _TRIES_BETWEEN_WORDS == 0:
                    _log.error("%d completions are not written yet: %s", waiting, error.logged)
                tries += 1
                time.sleep(_SECONDS_BETWEEN_TRIES)
            except Exception:
                _log.exception("A completion cannot be written")
                self._write_one_by_one(records)
                return
        self._on_written()

    def _put_all(self, connection: sa.Connection, records: list[Record]) -> None:
        self._completions.put(connection, [reply for record in records for reply in record.replies])
        self._ledger.put(
            connection,
            [record.payment for record in records if record.payment],
            [record.proposal for record in records if record.proposal],
        )
        self._tasks.finish(connection, self._owner, [record.outcome for record in records if record.outcome])

    def _write_one_by_one(self, records: list[Record]) -> None:
        """Stores the others without the one that is refused: they were paid for, too."""
        for part in records if len(records) > 1 else _parts(records[0]):
            self._write([part])


def _parts(record: Record) -> list[Record]:
    """What a refused record is made of; of an outcome that is refused alone, that the task has failed."""
    parts = [Record((reply,)) for reply in record.replies]
    if record.payment:
        parts.append(Record(payment=record.payment))
    if record.proposal:
        parts.append(Record(proposal=record.proposal))
    if record.outcome:
        parts.append(Record(outcome=record.outcome))
    if len(parts) > 1:
        return parts
    if record.outcome and not record.outcome.code:
        reason = "The prediction cannot be written: the server's log says more"
        return [Record(outcome=Outcome(record.outcome.item, code="internal_error", reason=reason))]
    return []
