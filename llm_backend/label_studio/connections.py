"""HTTP connections to one Label Studio: they show the token, follow no redirect, and limit each answer."""

import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterator

import httpx

MOST_ANSWER_BYTES = 256 * 1024 * 1024  # 200 tasks with all that belongs to them come in one answer


class AnswerUnusableError(httpx.TransportError):
    """The answer is too long or compressed; the text says which."""


def connections(url: str, header: Callable[[str], str], timeout: float) -> httpx.Client:
    """Connections to the Label Studio at `url`.

    `header` gives the value of `Authorization`; it gets the one that was refused, or an empty text.
    `timeout` is in seconds, for each read and for the body of an answer.
    """

    def bound(answer: httpx.Response) -> None:
        if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise AnswerUnusableError("a compressed answer, though that was not asked for")
        if isinstance(answer.stream, httpx.SyncByteStream):
            answer.stream = _BoundedBody(answer.stream, timeout)

    return httpx.Client(
        timeout=timeout,
        follow_redirects=False,
        headers={"Accept-Encoding": "identity"},  # what is compressed has no length that can be trusted
        auth=_TokenShown(url, header),
        event_hooks={"response": [bound]},
    )


def why_unreachable(url: str, timeout: float, error: Exception) -> str:
    """Why Label Studio cannot be reached, by what lies at the bottom of the client's error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, AnswerUnusableError):
            return f"{url} sends {cause}: check LABEL_STUDIO_URL"
        if isinstance(cause, ssl.SSLError):
            why = getattr(cause, "verify_message", "") or "no TLS there"
            return f"TLS to {url} fails ({why}): check the certificate, or whether it must be http://"
        if isinstance(cause, socket.gaierror):
            return f"the host of {url} cannot be found: check LABEL_STUDIO_URL"
        if isinstance(cause, ConnectionRefusedError):
            return (
                f"{url} refuses the connection: start Label Studio, or check host and port (in a container "
                "localhost is the container itself)"
            )
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return f"{url} does not answer within {timeout:.0f} s: check the address and firewalls"
    return f"{url} cannot be reached ({type(error).__name__}): check LABEL_STUDIO_URL"


class _TokenShown(httpx.Auth):
    """Shows the token to its own Label Studio; after a 401 once more, if there is another header by then."""

    def __init__(self, url: str, header: Callable[[str], str]) -> None:
        self._origin = _origin(httpx.URL(url))
        self._header = header

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if _origin(request.url) != self._origin:
            request.headers.pop("Authorization", None)
            yield request
            return
        shown = self._header("")
        request.headers["Authorization"] = shown
        answer = yield request
        if answer.status_code == 401 and (other := self._header(shown)) != shown:
            request.headers["Authorization"] = other
            yield request


class _BoundedBody(httpx.SyncByteStream):
    """A body that ends with an error when it is too long, in bytes or in seconds."""

    def __init__(self, stream: httpx.SyncByteStream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds

    def __iter__(self) -> Iterator[bytes]:
        ends = time.monotonic() + self._seconds
        room = MOST_ANSWER_BYTES
        for chunk in self._stream:
            room -= len(chunk)
            if room < 0:
                raise AnswerUnusableError(f"more than {MOST_ANSWER_BYTES} bytes")
            if time.monotonic() > ends:
                raise httpx.ReadTimeout("the body is still coming")
            yield chunk

    def close(self) -> None:
        self._stream.close()


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
