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
class Seen(Generic[Answer]):
    """The last answer, None before the first; and for how many seconds a newer one has been waited for."""

    answer: Answer | None
    waiting: float

    @property
    def new(self) -> Answer | None:
        """The answer, unless a newer one is being waited for."""
        return None if self.waiting else self.answer


class Lookout(Generic[Answer]):
    """Looks in a thread of its own, only when somebody wants to know, and never twice at once."""

    def __init__(self, look: Callable[[], Answer]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._began_at = 0.0
        self._ended_at: float | None = None
        self._answer: Answer | None = None
        self._closed = False

    def seen(self, patience: float) -> Seen[Answer]:
        """What was seen, at most a second ago, if the look takes at most `patience` seconds."""
        with self._lock:
            now = time.monotonic()
            looking = self._thread is not None and self._thread.is_alive()
            fresh = self._ended_at is not None and now - self._ended_at <= _FRESH_SECONDS
            if not looking and not fresh and not self._closed:
                self._began_at = now
                self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(patience)
        with self._lock:
            late = thread is not None and thread.is_alive()
            return Seen(self._answer, time.monotonic() - self._began_at if late else 0.0)

    def close(self) -> None:
        """Looks no more, and waits some seconds for the look that is under way."""
        with self._lock:
            self._closed, thread = True, self._thread
        if thread is not None:
            thread.join(_CLOSING_SECONDS)

    def _run(self) -> None:
        answer = None
        try:
            answer = self._look()
        except Exception:
            _log.exception("Unexpected error while looking after the server")
        with self._lock:
            self._answer = answer
            self._ended_at = time.monotonic()
