"""Counters of one process and their text for Prometheus."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from llm_backend.errors import BackendError

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What one process has done since it started."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "llm_backend_requests", "HTTP requests", ["endpoint", "status"], registry=self._registry
        )
        self._tasks = Counter(
            "llm_backend_tasks", "Tasks by outcome of their prediction", ["outcome"], registry=self._registry
        )
        self._completions = Counter(
            "llm_backend_completions",
            "Completions by outcome",
            ["provider", "outcome"],
            registry=self._registry,
        )
        self._tokens = Counter(
            "llm_backend_tokens", "Tokens as the provider counts them", ["provider", "direction"],
            registry=self._registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "llm_backend_completion_seconds", "Seconds until a completion or its failure", ["provider"],
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self._under_way = Gauge(
            "llm_backend_completions_under_way", "Completions being waited for", registry=self._registry
        )

    def request(self, endpoint: str, status: int) -> None:
        """Counts an answered HTTP request."""
        self._requests.labels(endpoint, str(status)).inc()

    def task(self, outcome: str) -> None:
        """Counts a task: `predicted`, or the code of the error."""
        self._tasks.labels(outcome).inc()

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

    def text(self) -> bytes:
        """All counters in Prometheus' text format."""
        return generate_latest(self._registry)
