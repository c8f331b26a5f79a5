"""The places for requests that may wait for an LLM, so that quick requests always find a thread."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from llm_backend.errors import BusyError

_MOST_KEPT_FREE = 16


class Places:
    """All threads of a process but a quarter, and never more than 16, that stay free for quick requests."""

    def __init__(self, threads: int) -> None:
        self._free = threading.BoundedSemaphore(threads - min(threads // 4, _MOST_KEPT_FREE))

    @contextmanager
    def one(self) -> Iterator[None]:
        """Takes a place for the time of the block.

        Raises:
            BusyError: all are taken.
        """
        if not self._free.acquire(blocking=False):
            raise BusyError("The server is busy: too many wait for the LLM; try again soon, or raise THREADS")
        try:
            yield
        finally:
            self._free.release()
