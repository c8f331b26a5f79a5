"""What Prometheus reads from `/metrics`: the same sums from whichever worker of a server is asked.

Under gunicorn each worker counts in files of its own, in the folder that the workers share, and whoever is
asked adds them all up. Who takes the place of a dead worker goes on in its files, so that no counter ever
goes backwards and crashes leave nothing behind. Elsewhere all is in memory, and several apps count apart.
"""

import functools
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

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
            mark_process_dead(shared.number, str(shared.path))
            values.ValueClass = _mapped_value(shared)  # before the first metric is made
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
            self._lookups.labels(result)

    def request_began(self, endpoint: str) -> None:
        """Counts a request as being answered."""
        self._requests_under_way.labels(endpoint).inc()

    def request_ended(self, endpoint: str) -> None:
        """Takes that back, however the request ended."""
        self._requests_under_way.labels(endpoint).dec()

    def request(self, endpoint: str, status: int, seconds: float) -> None:
        """Counts an answered HTTP request. Both are labels, so there must be few of them."""
        self._requests.labels(endpoint, str(status)).inc()
        self._request_seconds.labels(endpoint).observe(seconds)

    def task(self, outcome: str) -> None:
        """Counts a task: `predicted`, or the code of the error."""
        self._tasks.labels(outcome).inc()

    def looked_up(self, *, found: bool) -> None:
        """Counts a completion that was looked for in the database."""
        self._lookups.labels("hit" if found else "miss").inc()

    def retry(self, provider: str) -> None:
        """Counts another try for a completion."""
        self._retries.labels(provider).inc()

    @contextmanager
    def completion(self, provider: str) -> Iterator[Callable[[int, int], None]]:
        """Counts and times a completion; the caller gives the tokens of the prompt and of the replies."""
        started = time.monotonic()
        outcome = "failed"

        def record(prompt_tokens: int, completion_tokens: int) -> None:
            self._tokens.labels(provider, "in").inc(prompt_tokens)
            self._tokens.labels(provider, "out").inc(completion_tokens)

        with self._under_way.track_inprogress():
            try:
                yield record
                outcome = "succeeded"
            except BackendError as error:
                outcome = error.code
                raise
            finally:
                self._completions.labels(provider, outcome).inc()
                self._seconds.labels(provider).observe(time.monotonic() - started)

    def watch_tasks_left(self, tasks_left: Callable[[], int | None]) -> None:
        """Has this asked at every `text` for the tasks on the work list; None leaves them out."""
        self._tasks_left = tasks_left

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        registry = CollectorRegistry()
        for collect in (self._counted, self._looked_at):
            registry.register(_Collector(collect))
        return generate_latest(registry)

    def _counted(self) -> Iterable[Metric]:
        """What has been counted; under gunicorn by all workers, dead ones included."""
        if self._shared is None:
            return self._registry.collect()
        collector = MultiProcessCollector(None, str(self._shared.path))
        for _ in range(_TRIES - 1):
            try:
                return list(collector.collect())
            except (OSError, struct.error):  # a worker is just making or losing a file
                time.sleep(0.01)
        return list(collector.collect())

    def _looked_at(self) -> Iterator[Metric]:
        """What all workers see alike."""
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


def _mapped_value(shared: SharedFolder) -> type:
    """The class of prometheus_client's values that stand in this worker's files.

    It has one of its own, with one lock for all values, which dozens of threads of a batch would queue at;
    and names its files after the process, so that a server which crashes again and again fills the folder.
    """
    files: dict[str, MmapedDict] = {}
    files_lock = threading.Lock()

    class MappedValue:
        """A float and its place in a file."""

        _multiprocess = True

        def __init__(
            self, kind: str, metric_name: str, name: str, label_names: Any, label_values: Any,
            help_text: str, multiprocess_mode: str = "", **_: Any,
        ) -> None:  # fmt: skip
            self._key = mmap_key(metric_name, name, label_names, label_values, help_text)
            self._lock = threading.Lock()
            prefix = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
            with files_lock:
                if prefix not in files:
                    files[prefix] = MmapedDict(str(shared.path / f"{prefix}_{shared.number}.db"))
                self._file = files[prefix]
                self._value, _timestamp = self._file.read_value(self._key)

        def inc(self, amount: float) -> None:
            with self._lock:
                self._value += amount
                self._file.write_value(self._key, self._value, 0.0)

        def set(self, value: float, timestamp: float | None = None) -> None:
            with self._lock:
                self._value = value
                self._file.write_value(self._key, value, timestamp or 0.0)

        def get(self) -> float:
            return float(self._value)

        def set_exemplar(self, exemplar: Any) -> None:
            """Files hold none."""

        def get_exemplar(self) -> None:
            return None

    return MappedValue
