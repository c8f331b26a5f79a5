"""How many completions of batches one endpoint may have under way, as it says itself by 429.

Like a network's congestion control: after a 429 nothing starts for as long as the endpoint asks, then the
number begins at one, doubles up to half of what it was, and grows slowly from there.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from llm_backend.values import Endpoint

_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_MOST_ENDPOINTS = 64


class Limiter:
    """Thread-safe. `clock` gives seconds."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._most = most
        self._limit = float(most)
        self._threshold = float(most)  # below it the limit doubles, above it it creeps
        self._under_way = 0
        self._resumes_at = 0.0
        self._pause = _FIRST_PAUSE_SECONDS
        self._lock = threading.Lock()

    def seconds_to_wait(self) -> float:
        """How long nothing may start; 0 when it may."""
        with self._lock:
            return max(0.0, self._resumes_at - self._clock())

    def start(self) -> bool:
        """Takes a place; whether there was one."""
        with self._lock:
            if self._clock() < self._resumes_at or self._under_way >= int(self._limit):
                return False
            self._under_way += 1
            return True

    def succeeded(self) -> None:
        """Gives the place back; the endpoint takes this much."""
        with self._lock:
            self._under_way -= 1
            self._pause = _FIRST_PAUSE_SECONDS
            step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
            self._limit = min(float(self._most), self._limit + step)

    def failed(self) -> None:
        """Gives the place back; the failure says nothing about how much the endpoint takes."""
        with self._lock:
            self._under_way -= 1

    def refused(self, retry_after: float | None) -> None:
        """Gives the place back after a 429 or a lost connection.

        Nothing starts for `retry_after` seconds; without them, for a time that grows.
        """
        with self._lock:
            self._under_way -= 1
            now = self._clock()
            if now >= self._resumes_at:  # the first of those that were under way together
                self._threshold = max(1.0, self._limit / 2)
                self._limit = 1.0
                told = retry_after or 0.0  # `Retry-After: 0` would be a storm
                pause = told if told >= _FIRST_PAUSE_SECONDS else self._pause
                self._pause = min(_LONGEST_PAUSE_SECONDS, self._pause * 2)
            else:
                pause = retry_after or 0.0
            self._resumes_at = max(self._resumes_at, now + pause)


class Limiters:
    """The limiter of each endpoint, of the last 64 that were used. Only one thread may call it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._limiters: OrderedDict[Endpoint, Limiter] = OrderedDict()

    def of(self, endpoint: Endpoint) -> Limiter:
        """The same for the same endpoint, whichever job asks it."""
        limiter = self._limiters.setdefault(endpoint, Limiter(self._most))
        self._limiters.move_to_end(endpoint)
        if len(self._limiters) > _MOST_ENDPOINTS:
            self._limiters.popitem(last=False)
        return limiter
