"""Questions whose answers may take long, for requests that must be quick."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

_log = logging.getLogger(__name__)
_FRESH_SECONDS = 1.0
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Seen(Generic[Answer]):
    """The last answer, None before the first; and for how many seconds a newer one has been waited for."""

    answer: Answer | None
    waiting: float


class Lookout(Generic[Answer]):
    """Looks in a thread of its own, only when somebody wants to know, and never twice at once."""

    def __init__(self, look: Callable[[], Answer]) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._began_at = 0.0
        self._ended_at: float | None = None
        self._answer: Answer | None = None

    def seen(self, patience: float) -> Seen[Answer]:
        """What was seen, at most a second ago, if the look takes at most `patience` seconds."""
        with self._lock:
            now = time.monotonic()
            looking = self._thread is not None and self._thread.is_alive()
            if not looking and (self._ended_at is None or now - self._ended_at > _FRESH_SECONDS):
                self._began_at = now
                self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)
                self._thread.start()
            thread = self._thread
        if thread is not None:
            thread.join(patience)
        with self._lock:
            late = thread is not None and thread.is_alive()
            return Seen(self._answer, time.monotonic() - self._began_at if late else 0.0)

    def _run(self) -> None:
        answer = None
        try:
            answer = self._look()
        except Exception:
            _log.exception("Unexpected error while looking after the server")
        with self._lock:
            self._answer = answer
            self._ended_at = time.monotonic()
