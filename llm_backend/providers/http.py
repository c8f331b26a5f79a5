"""The HTTP client under every provider: it bounds an answer in bytes and in seconds, follows no redirect, and
checks the addresses that projects chose.
"""

import ssl
import threading
import time
import zlib
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from typing import Any
from urllib.request import getproxies

import httpcore2
import httpx2

from llm_backend.addresses import checked_address

MAX_ANSWER_BYTES = 16 * 1024 * 1024

# The time.monotonic() by which the completion under way in this thread must have ended.
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
    a proxy of the environment. With `for_batches`, every thread has its own connections. A request ends at
    `deadline`; only looking up a name, and a proxy, may take longer.
    """
    transport: httpx2.BaseTransport | None = None
    if checks_addresses:
        transport = _CheckedTransport(allowed_hosts)
    elif not (uses_proxy and getproxies()):
        transport = _TransportPerThread() if for_batches else _Transport()
    return httpx2.Client(
        follow_redirects=False,
        trust_env=uses_proxy,
        transport=transport,
        limits=_LIMITS,
        headers={"Accept-Encoding": "gzip"},
        event_hooks={"response": [_bound_body]},
    )


class _Stream(httpcore2.NetworkStream):
    """A connection on which nothing waits past the deadline.

    The client's own timeout begins anew with each byte, so that a trickle would last for ever.
    """

    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream
        self.close = stream.close  # type: ignore[method-assign]
        self.get_extra_info = stream.get_extra_info  # type: ignore[method-assign]

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _until_deadline(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _until_deadline(timeout))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, _until_deadline(timeout)))


class _Network(httpcore2.SyncBackend):
    """Makes such connections."""

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore2.NetworkStream:
        return _Stream(super().connect_tcp(host, port, _until_deadline(timeout), *args, **kwargs))


def _until_deadline(timeout: float | None) -> float | None:
    """The timeout, or what is left until the deadline if that is less."""
    left = deadline.get() - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the deadline is over")
    return left if timeout is None or left < timeout else timeout


class _Transport(httpx2.HTTPTransport):
    """Connections that end at the deadline."""

    def __init__(self, ssl_context: ssl.SSLContext | None = None) -> None:
        super().__init__(verify=ssl_context or True, limits=_LIMITS)
        self._pool._network_backend = _Network()  # httpx2 has no parameter for it


class _TransportPerThread(httpx2.BaseTransport):
    """Gives each thread connections of its own. In a shared pool a request looks at all connections under one
    lock, which triples what a completion costs when dozens of threads ask.
    """

    def __init__(self) -> None:
        self._ssl_context = httpx2.create_ssl_context()
        self._local = threading.local()
        self._all: list[_Transport] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if not hasattr(self._local, "transport"):
            self._local.transport = _Transport(self._ssl_context)
            self._all.append(self._local.transport)
        transport: _Transport = self._local.transport
        return transport.handle_request(request)

    def close(self) -> None:
        for transport in self._all:
            transport.close()


class _CheckedTransport(_Transport):
    """Resolves the host once, checks the address, and connects to just that."""

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        super().__init__()
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

    It unpacks the body itself: the client would unpack a chunk whole, which may be a thousand times its size.
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
