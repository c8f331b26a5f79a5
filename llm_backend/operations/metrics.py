"""What Prometheus reads from `/metrics`: the same sums from whichever worker of a server is asked.

Under gunicorn prometheus-client runs in its multiprocess mode: each worker counts in files of its own in the
folder that the workers share, and a scrape adds them all up. Elsewhere all is in memory, and several apps
count apart.
"""

import functools
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from llm_backend.errors import BackendError
from llm_backend.operations.worker_folder import SharedFolder

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_QUICK_SECONDS = (0.005, 0.01, 0.025, *_SECONDS)
_TRIES = 5


class Metrics:
    """What the workers of one server have done since it started. Thread-safe.

    `about` are the labels of the build info.
    """

    def __init__(self, shared: SharedFolder | None = None, about: Mapping[str, str] | None = None) -> None:
        self._shared = shared
        self._about = dict(about or {})
        self._tasks_left: Callable[[], int | None] = lambda: None
        if shared is not None:
            # Files named after process ids, as is usual, would fill the folder where workers crash again and
            # again. The successor of a dead worker has its number, and goes on in its files.
            values.ValueClass = values.MultiProcessValue(lambda: shared.number)
        # The metric of given labels: there are few, and prometheus_client takes 2 us for finding one.
        self._child: Callable[..., Any] = functools.cache(lambda metric, *labels: metric.labels(*labels))
        self._registry = CollectorRegistry()
        counter = functools.partial(Counter, registry=self._registry)
        gauge = functools.partial(Gauge, multiprocess_mode="livesum", registry=self._registry)
        histogram = functools.partial(Histogram, registry=self._registry)
        self._requests = counter(
            "llm_backend_requests", "HTTP requests by endpoint and status", ["endpoint", "status"]
        )
        self._request_seconds = histogram(
            "llm_backend_request_seconds", "Seconds until a request was answered", ["endpoint"],
            buckets=_QUICK_SECONDS,
        )  # fmt: skip
        self._requests_under_way = gauge(
            "llm_backend_requests_under_way", "Requests being answered", ["endpoint"]
        )
        self._tasks = counter(
            "llm_backend_tasks", "Tasks by outcome: `predicted`, or the code of the error", ["outcome"]
        )
        self._completions = counter(
            "llm_backend_completions", "Completions by outcome: `succeeded`, or the code of the error",
            ["provider", "outcome"],
        )  # fmt: skip
        self._seconds = histogram(
            "llm_backend_completion_seconds", "Seconds until a completion or its failure, retries included",
            ["provider"], buckets=_SECONDS,
        )  # fmt: skip
        self._under_way = gauge("llm_backend_completions_under_way", "Completions being waited for")
        self._retries = counter(
            "llm_backend_completion_retries", "Further tries after a failure that may pass", ["provider"]
        )
        self._tokens = counter(
            "llm_backend_tokens", "Tokens as the provider counts them: `in` and `out`",
            ["provider", "direction"],
        )  # fmt: skip
        self._lookups = counter(
            "llm_backend_cache_lookups",
            "Completions that were in the database (`hit`) or had to be asked for (`miss`)", ["result"],
        )  # fmt: skip
        for result in ("hit", "miss"):
            self._child(self._lookups, result)

    def request_began(self, endpoint: str) -> None:
        """Counts a request that is being answered."""
        self._child(self._requests_under_way, endpoint).inc()

    def request_ended(self, endpoint: str) -> None:
        """Takes that back."""
        self._child(self._requests_under_way, endpoint).dec()

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """Counts an answered HTTP request. There must be few different endpoints: they are labels."""
        self._child(self._requests, endpoint, str(status)).inc()
        self._child(self._request_seconds, endpoint).observe(seconds)

    def task(self, outcome: str) -> None:
        """Counts a task: `predicted`, or the code of the error."""
        self._child(self._tasks, outcome).inc()

    def looked_up(self, *, found: bool) -> None:
        """Counts a look into the database for a completion."""
        self._child(self._lookups, "hit" if found else "miss").inc()

    def retry(self, provider: str) -> None:
        """Counts another try for a completion."""
        self._child(self._retries, provider).inc()

    @contextmanager
    def completion(self, provider: str) -> Iterator[Callable[[int, int], None]]:
        """Counts and times a completion; the caller gives the tokens of the prompt and of the replies."""
        started = time.monotonic()
        outcome = "failed"

        def record(prompt_tokens: int, completion_tokens: int) -> None:
            self._child(self._tokens, provider, "in").inc(prompt_tokens)
            self._child(self._tokens, provider, "out").inc(completion_tokens)

        self._under_way.inc()
        try:
            yield record
            outcome = "succeeded"
        except BackendError as error:
            outcome = error.code
            raise
        finally:
            self._under_way.dec()
            self._child(self._completions, provider, outcome).inc()
            self._child(self._seconds, provider).observe(time.monotonic() - started)

    def watch_tasks_left(self, tasks_left: Callable[[], int | None]) -> None:
        """Names the function that every `text` asks for the tasks on the work list; None leaves them out."""
        self._tasks_left = tasks_left

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        registry = CollectorRegistry()
        for collect in (self._counted, self._looked_at):
            registry.register(_Collector(collect))
        return generate_latest(registry)

    def _counted(self) -> Iterable[Metric]:
        """What this process has counted; under gunicorn what all workers have, dead ones included."""
        if self._shared is None:
            return self._registry.collect()
        collector = MultiProcessCollector(None, str(self._shared.path))
        for _ in range(_TRIES - 1):
            try:
                return list(collector.collect())
            except (OSError, struct.error):  # a worker is just making a file
                time.sleep(0.01)
        return list(collector.collect())

    def _looked_at(self) -> Iterator[Metric]:
        """What every worker would answer alike."""
        info = GaugeMetricFamily(
            "llm_backend_build_info", "Always 1: what is served is in the labels", labels=list(self._about)
        )
        info.add_metric(list(self._about.values()), 1)
        yield info
        left = self._tasks_left()
        if left is not None:
            yield GaugeMetricFamily(
                "llm_backend_tasks_left", "Tasks of batches that are on the work list", value=left
            )


class _Collector:
    """A function as a registry takes it."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self.collect = collect
