"""The HTTP client under every provider: bounded answers, no redirects, and checked addresses where a
project chose them.
"""

import threading
import time
import zlib
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from urllib.request import getproxies

import httpx2

from llm_backend.addresses import checked_address

MAX_ANSWER_BYTES = 16 * 1024 * 1024

# The time.monotonic() at which the completion under way in this thread must have ended.
deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


class AnswerTooLargeError(httpx2.TransportError):
    """The endpoint sends more than any completion needs."""


class AnswerUnreadableError(httpx2.TransportError):
    """The endpoint sends a body that cannot be unpacked."""


_LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=30)


def make_http_client(
    *, uses_proxy: bool, checks_addresses: bool, allowed_hosts: Collection[str], for_batches: bool
) -> httpx2.Client:
    """A client that keeps its connections. A redirect is an error: it could carry the key elsewhere.

    With `checks_addresses`, each connection goes to an address that has just been checked, and not through
    a proxy of the environment. With `for_batches`, every thread has its own connections.
    """
    transport: httpx2.BaseTransport | None = None
    if checks_addresses:
        transport = _CheckedTransport(allowed_hosts)
    elif for_batches and not (uses_proxy and getproxies()):
        transport = _TransportPerThread()
    return httpx2.Client(
        follow_redirects=False,
        trust_env=uses_proxy,
        transport=transport,
        limits=_LIMITS,
        headers={"Accept-Encoding": "gzip"},
        event_hooks={"response": [_bound_body]},
    )


class _TransportPerThread(httpx2.BaseTransport):
    """Connections of each thread's own: a shared pool looks at all of them for each request, under one lock,
    which triples what a completion costs when dozens of threads are at it.
    """

    def __init__(self) -> None:
        self._ssl_context = httpx2.create_ssl_context()
        self._local = threading.local()
        self._all: list[httpx2.HTTPTransport] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if not hasattr(self._local, "transport"):
            self._local.transport = httpx2.HTTPTransport(verify=self._ssl_context, limits=_LIMITS)
            self._all.append(self._local.transport)
        transport: httpx2.HTTPTransport = self._local.transport
        return transport.handle_request(request)

    def close(self) -> None:
        for transport in self._all:
            transport.close()


class _CheckedTransport(httpx2.HTTPTransport):
    """Resolves the host once, checks the address, and connects to just that."""

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        super().__init__(limits=_LIMITS)
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
    """A body that ends with an error when it is too long, in bytes or in seconds.

    It is unpacked here: the client would unpack a chunk whole, which may be a thousand times its size.
    """

    def __init__(self, stream: httpx2.SyncByteStream, *, is_gzip: bool) -> None:
        self._stream = stream
        self._is_gzip = is_gzip

    def __iter__(self) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if self._is_gzip else None
        room = MAX_ANSWER_BYTES + 1
        for received in self._stream:
            try:
                chunk = unpacker.decompress(received, room) if unpacker else received
            except zlib.error:
                raise AnswerUnreadableError("not gzip") from None
            room -= len(chunk)
            if room <= 0:
                raise AnswerTooLargeError(f"more than {MAX_ANSWER_BYTES} bytes")
            if time.monotonic() > deadline.get():
                raise httpx2.ReadTimeout("the body is still coming")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _bound_body(response: httpx2.Response) -> None:
    if not isinstance(response.stream, httpx2.SyncByteStream):
        return
    encoding = response.headers.pop("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise AnswerUnreadableError(f"packed as {encoding}")
    response.stream = _BoundedStream(response.stream, is_gzip=encoding.endswith("gzip"))
