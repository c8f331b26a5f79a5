"""What is known for a while."""

import threading
import time
from collections import OrderedDict
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Expiring(Generic[Key, Value]):
    """Values, each kept for some time; of more than `most` it keeps the newest. Safe for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, tuple[Value, float]] = OrderedDict()

    def get(self, key: Key) -> Value | None:
        """The value, or None when it is not known, or not any more."""
        with self._lock:
            value, until = self._kept.get(key, (None, 0.0))
        return value if time.monotonic() < until else None

    def put(self, key: Key, value: Value, seconds: float) -> None:
        """Keeps the value for so many seconds; no time at all for zero and less."""
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (value, time.monotonic() + seconds)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
