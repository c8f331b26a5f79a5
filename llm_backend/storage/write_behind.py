"""Writes what has been paid for as soon as it arrives, what came together in one transaction."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from llm_backend.errors import StorageError
from llm_backend.storage import Database, Outcome, RefusedValueError, StoredCompletions, Tasks
from llm_backend.storage.completions import KeyedReply

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 256
_MOST_WAITING = 5000
_SECONDS_BETWEEN_TRIES = 1.0
_TRIES_BETWEEN_WORDS = 10
_LAST_TRY_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Record:
    """Replies, and the outcome of the task that they are for when it is one of a batch."""

    replies: tuple[KeyedReply, ...] = ()
    outcome: Outcome | None = None


class Recorder:
    """A queue of records and the thread that writes them, which starts with the first."""

    def __init__(
        self,
        database: Database,
        completions: StoredCompletions,
        tasks: Tasks,
        *,
        owner: str,
        on_written: Callable[[], None],
    ) -> None:
        self._database = database
        self._completions = completions
        self._tasks = tasks
        self._owner = owner
        self._on_written = on_written
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._deadline = float("inf")  # after which nothing is tried again
        self._stuck = threading.Event()

    @property
    def is_stuck(self) -> bool:
        """Whether what has been paid for cannot be written: no more must be paid for meanwhile.

        From the first write that fails until nothing waits any more.
        """
        return self._stuck.is_set()

    def put(self, record: Record) -> None:
        """Has the record written soon.

        While nothing can be written, a batch asks for no more. People go on, who have got their answers: of
        those only so many are kept.
        """
        if self.is_stuck and record.outcome is None and self._queue.qsize() >= _MOST_WAITING:
            _log.error("A completion that a person has got is not kept: too many wait for the database")
            return
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
                self._thread.start()
        self._queue.put(record)

    def close(self, deadline: float) -> bool:
        """Writes what is left and ends, until `deadline` of the monotonic clock; whether it has."""
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
                self._stuck.clear()
            if first is None:
                return

    def _write(self, records: list[Record]) -> None:
        """Keeps trying: what is in memory alone would be paid for again after a crash."""
        tries = 0
        while records:
            try:
                with self._database.writing(quick=True) as connection:
                    self._completions.put(
                        connection, [reply for record in records for reply in record.replies]
                    )
                    outcomes = [record.outcome for record in records if record.outcome]
                    self._tasks.finish(connection, self._owner, outcomes)
                break
            except RefusedValueError as error:
                _log.error("A completion cannot be written: %s", error.logged)
                self._write_one_by_one(records)
                return
            except StorageError as error:
                self._stuck.set()
                waiting = len(records) + self._queue.qsize()
                if time.monotonic() > self._deadline:
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

    def _write_one_by_one(self, records: list[Record]) -> None:
        """One of them is the culprit; the others are paid for, too."""
        for part in records if len(records) > 1 else _parts(records[0]):
            self._write([part])


def _parts(record: Record) -> list[Record]:
    """What a refused record is made of; of an outcome that is refused alone, that there is none."""
    outcomes = [Record(outcome=record.outcome)] if record.outcome else []
    if len(record.replies) + len(outcomes) > 1:
        return [*(Record((reply,)) for reply in record.replies), *outcomes]
    if record.outcome and not record.outcome.code:
        reason = "The prediction cannot be written: the server's log says more"
        return [Record(outcome=Outcome(record.outcome.item, code="internal_error", reason=reason))]
    return []
