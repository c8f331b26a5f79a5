"""Asking LLMs: one factory, one client per endpoint kept for the life of the process, one retry layer.

Nothing outside this package imports `openai`.
"""

import functools
import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from llm_backend.operations.metrics import Metrics
from llm_backend.operations.provider_status import ProviderStatus
from llm_backend.providers import azure, embedded, ollama, openai
from llm_backend.providers.chat import ChatClient, ProviderModule
from llm_backend.values import Completion, CompletionRequest, Endpoint

_MODULES: dict[str, ProviderModule] = {
    "openai": openai,
    "azure": azure,
    "ollama": ollama,
    "embedded": embedded,
}
# At every call the openai client looks whether somebody has imported httpx. It must not find it half
# imported, by a thread that imports label-studio-sdk's client: the completion, paid for, would fail.
importlib.import_module("httpx")

_MAX_CLIENTS = 64
_MAX_THREADS = 256


class Providers:
    """Asks any endpoint for completions. One per process; threads are made at the first use."""

    def __init__(
        self,
        metrics: Metrics,
        status: ProviderStatus | None = None,
        *,
        timeout: float,
        max_retries: int,
        allowed_hosts: Collection[str] = (),
    ) -> None:
        self._metrics = metrics
        self._status = status or ProviderStatus()
        self._timeout = timeout
        self._max_retries = max_retries
        self._allowed_hosts = tuple(allowed_hosts)
        self._lock = threading.Lock()
        self._clients: OrderedDict[Endpoint, ChatClient] = OrderedDict()
        self._pool = ThreadPoolExecutor(_MAX_THREADS, thread_name_prefix="completion")

    def complete(self, endpoint: Endpoint, request: CompletionRequest) -> Completion:
        """As many replies as asked for, or fewer when only some succeeded.

        Takes at most `timeout` seconds, all tries included.

        Raises:
            CompletionError: no reply at all; its class and reason say why and what to do.
        """
        with self._observed(endpoint, request) as record:
            completion = self._client(endpoint).complete(request, self._timeout)
            record(completion.prompt_tokens, completion.completion_tokens)
            return completion

    def complete_for_batch(self, endpoint: Endpoint, request: CompletionRequest) -> Completion:
        """The same for a task of a batch, in the caller's thread, and a 429 is the caller's business.

        Raises:
            RateLimitedError: at once, with the seconds to wait.
            CompletionError: no reply at all; its class and reason say why and what to do.
        """
        with self._observed(endpoint, request) as record:
            completion = self._client(endpoint).complete_in_turn(request, self._timeout)
            record(completion.prompt_tokens, completion.completion_tokens)
            return completion

    def close(self) -> None:
        """Closes all connections and ends the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    @contextmanager
    def _observed(
        self, endpoint: Endpoint, request: CompletionRequest
    ) -> Iterator[Callable[[int, int], None]]:
        with (
            self._metrics.completion(endpoint.provider) as record,
            self._status.noting(endpoint, request.model),
        ):
            yield record

    def _client(self, endpoint: Endpoint) -> ChatClient:
        """The client of the endpoint; the one that has not been used for longest makes room."""
        with self._lock:
            client = self._clients.pop(endpoint, None) or self._make_client(endpoint)
            self._clients[endpoint] = client
            if len(self._clients) > _MAX_CLIENTS:
                self._clients.popitem(last=False)
            return client

    def _make_client(self, endpoint: Endpoint) -> ChatClient:
        return ChatClient(
            endpoint,
            _MODULES[endpoint.provider],
            pool=self._pool,
            max_retries=self._max_retries,
            allowed_hosts=self._allowed_hosts,
            on_retry=functools.partial(self._metrics.retry, endpoint.provider),
        )
