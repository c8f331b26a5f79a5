"""Questions whose answers may take long, for requests that must be quick."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)
_FRESH_SECONDS = 1.0
_CLOSING_SECONDS = 2.0
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Probed(Generic[Answer]):
    """The last answer, None before the first. `waiting`: the seconds for which a newer one has been late."""

    answer: Answer | None
    waiting: float

    @property
    def fresh(self) -> Answer | None:
        """The answer; None while a newer one is late."""
        return None if self.waiting else self.answer


class BackgroundProbe(Generic[Answer]):
    """Asks a question in a thread of its own: when a request wants the answer, and never twice at once."""

    def __init__(self, question: Callable[[], Answer]) -> None:
        self._question = question
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._began_at = 0.0
        self._ended_at: float | None = None
        self._answer: Answer | None = None
        self._closed = False

    def ask(self, patience: float) -> Probed[Answer]:
        """An answer that is at most 1 s old, if it comes within `patience` seconds; else the last one."""
        with self._lock:
            now = time.monotonic()
            asking = self._thread is not None and self._thread.is_alive()
            fresh = self._ended_at is not None and now - self._ended_at <= _FRESH_SECONDS
            if not asking and not fresh and not self._closed:
                self._began_at = now
                self._thread = threading.Thread(target=self._run, name="background-probe", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(patience)
        with self._lock:
            late = thread is not None and thread.is_alive()
            return Probed(self._answer, time.monotonic() - self._began_at if late else 0.0)

    def close(self) -> None:
        """Asks no more, and waits at most 2 s for the answer that is under way."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        answer = None
        try:
            answer = self._question()
        except Exception:
            _log.exception("Unexpected error in a background probe")
        with self._lock:
            self._answer = answer
            self._ended_at = time.monotonic()
