"""The HTTP client under every provider: bounded answers, no redirects, and checked addresses where a
project chose them.
"""

import time
from collections.abc import Collection, Iterator
from contextvars import ContextVar

import httpx2

from llm_backend.addresses import checked_address

MAX_ANSWER_BYTES = 16 * 1024 * 1024

# The time.monotonic() at which the completion under way in this thread must have ended.
deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class AnswerTooLargeError(httpx2.TransportError):
    """The endpoint sends more than any completion needs."""


def make_http_client(
    *, uses_proxy: bool, checks_addresses: bool, allowed_hosts: Collection[str]
) -> httpx2.Client:
    """A client that keeps its connections. A redirect is an error: it could carry the key elsewhere.

    With `checks_addresses`, each connection goes to an address that has just been checked, and not through
    a proxy of the environment.
    """
    return httpx2.Client(
        follow_redirects=False,
        trust_env=uses_proxy,
        transport=_CheckedTransport(allowed_hosts) if checks_addresses else None,
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100),
        event_hooks={"response": [_bound_body]},
    )


class _CheckedTransport(httpx2.HTTPTransport):
    """Resolves the host once, checks the address, and connects to just that."""

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=None, max_keepalive_connections=100))
        self._allowed_hosts = allowed_hosts

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        port = url.port or (443 if url.scheme == "https" else 80)
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        request.url = url.copy_with(host=checked_address(url.host, port, self._allowed_hosts))
        try:
            return super().handle_request(request)
        finally:
            request.url = url


class _BoundedStream(httpx2.SyncByteStream):
    """A body that ends with an error when it is too long, in bytes or in seconds."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for chunk in self._stream:
            received += len(chunk)
            if received > MAX_ANSWER_BYTES:
                raise AnswerTooLargeError(f"more than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline.get():
                raise httpx2.ReadTimeout("the body is still coming")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _bound_body(response: httpx2.Response) -> None:
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _BoundedStream(response.stream)
