"""Writes what has been paid for as soon as it arrives, what came together in one transaction."""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from llm_backend.errors import StorageError
from llm_backend.storage import Database, StoredCompletions, WorkList
from llm_backend.storage.completions import KeyedReply
from llm_backend.storage.work import Outcome

_log = logging.getLogger(__name__)
_MOST_AT_ONCE = 256
_SECONDS_BETWEEN_TRIES = 1.0
_TRIES_AT_THE_END = 12


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
        work: WorkList,
        *,
        owner: str,
        on_written: Callable[[], None],
    ) -> None:
        self._database = database
        self._completions = completions
        self._work = work
        self._owner = owner
        self._on_written = on_written
        self._queue: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def put(self, record: Record) -> None:
        """Has the record written soon."""
        with self._lock:
            if self._thread is None and not self._closing.is_set():
                self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
                self._thread.start()
        self._queue.put(record)

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        self._closing.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join()

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
            if first is None:
                return

    def _write(self, records: list[Record]) -> None:
        """Keeps trying: what is in memory alone would be paid for again after a crash."""
        failures = 0
        while records:
            try:
                with self._database.writing() as connection:
                    self._completions.put(
                        connection, [reply for record in records for reply in record.replies]
                    )
                    outcomes = [record.outcome for record in records if record.outcome]
                    self._work.finish(connection, self._owner, outcomes)
                break
            except StorageError as error:
                _log.error("%d completions are not written yet: %s", len(records), error.logged)
                failures += 1
                if self._closing.is_set() and failures > _TRIES_AT_THE_END:
                    return
                time.sleep(_SECONDS_BETWEEN_TRIES)
            except Exception:
                _log.exception("A completion cannot be written")
                if len(records) == 1:
                    break
                for record in records:  # one of them is the culprit; the others are paid for, too
                    self._write([record])
                return
        self._on_written()
