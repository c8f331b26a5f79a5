"""Who may wait for an LLM: a process keeps some threads free, so that quick requests always find one."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llm_backend.errors import BusyError

_MOST_KEPT_FREE = 16


class Admission:
    """Lets all threads of a process wait for an LLM but a quarter of them, at most 16."""

    def __init__(self, threads: int) -> None:
        self._places = threading.BoundedSemaphore(threads - min(threads // 4, _MOST_KEPT_FREE))

    @contextmanager
    def place(self) -> Iterator[None]:
        """Takes a place for the time of the block.

        Raises:
            BusyError: all are taken.
        """
        if not self._places.acquire(blocking=False):
            raise BusyError("The server is busy: too many wait for the LLM; try again soon, or raise THREADS")
        try:
            yield
        finally:
            self._places.release()
