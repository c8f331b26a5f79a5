"""An OpenAI-compatible server: `python -m testkit.stub_process SECONDS [FAULTS]` prints its address.

With `some` as FAULTS every 10th task fails and every 50th hangs, by the number at the end of the task's text.
With `limit` every call gets a 429 with Retry-After 2, for 10 seconds from the first call. A call for the
model `count` gets the number of calls so far, and is not counted.
"""

import dataclasses
import re
import sys
import threading
import time

from testkit.stub_llm import Answer, Call, StubLLM, completion, failure, running_stub

_HANG_SECONDS = 60.0
_LIMIT_SECONDS = 10.0


class _Script:
    """What the stub answers."""

    def __init__(self, stub: StubLLM, latency: float, faults: str) -> None:
        self._stub = stub
        self._usual = dataclasses.replace(completion("Sarcastic"), delay=latency)
        self._faults = faults
        self._calls = 0
        self._limited_until: float | None = None
        self._lock = threading.Lock()

    def answer(self, call: Call) -> Answer:
        """The answer to one call."""
        self._stub.calls.clear()  # they would fill the memory
        if call.body["model"] == "count":
            return completion(str(self._calls))
        with self._lock:
            self._calls += 1
            if self._limited_until is None:
                self._limited_until = time.monotonic() + _LIMIT_SECONDS
        if self._faults == "limit" and time.monotonic() < self._limited_until:
            return failure(429, "slow down", {"Retry-After": "2"})
        if self._faults == "some":
            found = re.search(r"(\d+)\n\nTask Directive", call.body["messages"][-1]["content"])
            number = int(found[1]) if found else 1
            if number % 50 == 0:
                return dataclasses.replace(self._usual, delay=_HANG_SECONDS)
            if number % 10 == 0:
                return failure(400, "no")
        return self._usual


if __name__ == "__main__":
    with running_stub() as stub:
        stub.answer = _Script(stub, float(sys.argv[1]), (sys.argv[2:] or ["none"])[0]).answer
        print(stub.url, flush=True)
        threading.Event().wait()
