"""Asks any endpoint: one client for each endpoint, kept for the life of the process."""

import functools
import importlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from llm_backend.errors import CompletionError
from llm_backend.operations.metrics import Metrics
from llm_backend.operations.provider_status import ProviderStatus
from llm_backend.providers import PROVIDERS
from llm_backend.providers.chat import ChatClient
from llm_backend.values import Completion, CompletionRequest, Endpoint

# At every call the openai client looks whether somebody has imported httpx. It must not find it half
# imported, by a thread that imports label-studio-sdk's client: the completion, paid for, would fail.
importlib.import_module("httpx")

_MAX_CLIENTS = 64
_MAX_THREADS = 256


class Providers:
    """Asks any endpoint for completions. One per process; it makes threads at their first use."""

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

        Takes at most `timeout` seconds, all tries included; a name server that hangs comes on top.

        Raises:
            CompletionError: no reply at all. Class and reason say why and what to do, `paid` what it cost.
        """
        return self._ask(endpoint, request, ChatClient.complete)

    def complete_for_batch(self, endpoint: Endpoint, request: CompletionRequest) -> Completion:
        """The same for a task of a batch: replies come in turn, and a 429 is the caller's business.

        Raises:
            RateLimitedError: at once, with the seconds to wait.
            CompletionError: no reply at all, or the connection failed after some: those are in `paid`.
        """
        return self._ask(endpoint, request, ChatClient.complete_in_turn)

    def close(self) -> None:
        """Closes all connections and ends the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _ask(
        self,
        endpoint: Endpoint,
        request: CompletionRequest,
        complete: Callable[[ChatClient, CompletionRequest, float], Completion],
    ) -> Completion:
        with (
            self._metrics.completion(endpoint.provider) as record,
            self._status.noting(endpoint, request.model),
        ):
            try:
                completion = complete(self._client(endpoint), request, self._timeout)
            except CompletionError as error:
                if error.paid:
                    record(error.paid.prompt_tokens, error.paid.completion_tokens)
                raise
            record(completion.prompt_tokens, completion.completion_tokens)
            return completion

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
            PROVIDERS[endpoint.provider],
            pool=self._pool,
            max_retries=self._max_retries,
            allowed_hosts=self._allowed_hosts,
            on_retry=functools.partial(self._metrics.retry, endpoint.provider),
        )
