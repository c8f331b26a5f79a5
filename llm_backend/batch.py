"""Many tasks: side by side, within the deadline, and one task's failure stays its own."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from llm_backend.errors import (
    AuthenticationFailedError,
    BackendError,
    CompletionTimeoutError,
    ConnectionFailedError,
    MissingSettingsError,
    ModelNotFoundError,
    QuotaExhaustedError,
)
from llm_backend.metrics import Metrics
from llm_backend.values import Json

_log = logging.getLogger(__name__)
_HOPELESS = (
    AuthenticationFailedError,
    ConnectionFailedError,
    MissingSettingsError,
    ModelNotFoundError,
    QuotaExhaustedError,
)


class BatchRunner:
    """Works through batches with at most `max_concurrency` tasks under way in this process."""

    def __init__(self, metrics: Metrics, *, max_concurrency: int, timeout: float) -> None:
        self._metrics = metrics
        self._timeout = timeout - min(5.0, timeout / 10)  # the answer has to travel, too
        self._pool = ThreadPoolExecutor(max_concurrency, thread_name_prefix="batch")

    def run(self, tasks: Sequence[Json], predict: Callable[[Json], Json]) -> list[Json | list[Json]]:
        """One entry per task, in order: its prediction, or an empty list, which Label Studio asks for again.

        Raises:
            BackendError: no task got a prediction; the first failure says why.
        """
        deadline = time.monotonic() + self._timeout
        hopeless = threading.Event()
        calls = [self._pool.submit(self._one, task, predict, hopeless) for task in tasks]
        done, late = wait(calls, timeout=max(0.0, deadline - time.monotonic()))
        for call in late:
            call.cancel()
        if late:
            _log.warning("%d of %d tasks were not done in time.", len(late), len(tasks))
        failure = next((call.exception() for call in calls if call in done and call.exception()), None)
        entries = [_entry(call, done=call in done) for call in calls]
        if tasks and not any(entries):
            raise failure or CompletionTimeoutError("No task was done in time: select fewer, or try again")
        return entries

    def close(self) -> None:
        """Ends the threads when they are done with their tasks."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, task: Json, predict: Callable[[Json], Json], hopeless: threading.Event) -> Json | None:
        if hopeless.is_set():
            return None
        try:
            prediction = predict(task)
        except BackendError as error:
            if isinstance(error, _HOPELESS):
                hopeless.set()
            self._metrics.task(error.code)
            _log.warning("Task %s has no prediction: %s", task.get("id"), error.reason)
            raise
        self._metrics.task("predicted")
        return prediction


def _entry(call: "Future[Json | None]", *, done: bool) -> Json | list[Json]:
    return [] if not done or call.exception() else call.result() or []
