"""GET on behalf of a task: only from where it may, within limits, and credentials only to their owner.

What a server answers goes nowhere but into the file that is returned: errors name the address that the task
named and a status, never a body, a header or a redirect's target.
"""

import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions

from llm_backend.addresses import AddressRefusedError, checked_addresses
from llm_backend.errors import InputError
from llm_backend.label_studio.files import LabelStudio, origin_of
from llm_backend.label_studio.tokens import AccessTokens, is_personal, kind_of
from llm_backend.reading.connections import CheckedAdapter, Watchdog
from llm_backend.values import Json

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_CHUNK_BYTES = 64 * 1024
_MAX_TOKEN_ANSWER_BYTES = 64 * 1024
_MAX_ADAPTERS = 16


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was fetched: its bytes in a temporary file, at its start, and what it is said to be."""

    file: IO[bytes]
    content_type: str
    charset: str | None


class Fetcher:
    """Fetches files for tasks. One per process; keeps connections and Label Studio's access tokens.

    `timeout` is for one file, all redirects included; `folder` is where temporary files are made.
    """

    def __init__(
        self, *, timeout: float, max_bytes: int, allowed_hosts: Collection[str], folder: Path
    ) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._allowed_hosts = tuple(allowed_hosts)
        self._folder = folder
        self._lock = threading.Lock()
        self._adapters: OrderedDict[LabelStudio | None, CheckedAdapter] = OrderedDict()
        self._tokens = AccessTokens()

    @contextmanager
    def fetch(self, url: str, label_studio: LabelStudio | None) -> Iterator[Fetched]:
        """The file at the address, there until the block ends.

        Raises:
            InputError: it cannot be had within the limits, or Label Studio does not give it.
            AddressRefusedError: the address is neither public, nor Label Studio's, nor in ALLOWED_HOSTS.
        """
        with self._temporary_file() as file:
            with Watchdog(self._timeout) as watchdog:
                try:
                    answer = self._follow(url, label_studio, time.monotonic() + self._timeout)
                    try:
                        self._save(answer, file, url)
                        content_type, charset = content_type_of(answer.headers.get("Content-Type", ""))
                    finally:
                        answer.close()
                # What a hostile server makes requests and urllib3 raise is not to be told beforehand.
                except Exception as error:
                    if watchdog.has_bitten:
                        raise _too_slow(url) from None
                    raise _own_error(error, url) from None
                if watchdog.has_bitten:  # an answer that was cut off can look like one that has ended
                    raise _too_slow(url)
            file.seek(0)
            yield Fetched(file, content_type, charset)

    def close(self) -> None:
        """Closes the connections."""
        with self._lock:
            for adapter in self._adapters.values():
                adapter.close()
            self._adapters.clear()

    def _follow(self, url: str, label_studio: LabelStudio | None, deadline: float) -> requests.Response:
        """The answer with the file, after redirects. Credentials stay behind at the first one that leaves."""
        address = url
        trusted = True
        for redirects in range(_MAX_REDIRECTS + 1):
            prepared = _prepared(address)
            if prepared is None and redirects == 0:
                raise InputError(
                    f"{_shown(url)} is not a plain address like https://host/path, without user and password"
                )
            if prepared is None:
                raise _bad_redirect(url)
            trusted = trusted and label_studio is not None and label_studio.trusts(prepared.url or "")
            credentials = label_studio if trusted else None
            try:
                answer = self._get(prepared, label_studio, credentials, deadline)
            except AddressRefusedError:
                if redirects == 0:
                    raise
                raise _bad_redirect(url) from None
            location = answer.headers.get("Location", "")
            if answer.status_code not in _REDIRECTS or not location:
                _require_success(answer, url, credentials, label_studio)
                return answer
            answer.close()
            address = urljoin(prepared.url or "", location)
        raise InputError(f"{_shown(url)} redirects more than {_MAX_REDIRECTS} times")

    def _get(
        self,
        prepared: requests.PreparedRequest,
        label_studio: LabelStudio | None,
        credentials: LabelStudio | None,
        deadline: float,
    ) -> requests.Response:
        """One answer. With a personal access token, a 401 is answered with a fresh access token, once."""
        adapter = self._adapter(label_studio)

        def send(refused: str = "") -> requests.Response:
            if credentials is not None and credentials.token:
                prepared.headers["Authorization"] = self._tokens.header(
                    credentials.url, credentials.token, exchange, refused=refused
                )
            return adapter.send(prepared, stream=True, timeout=_remaining(deadline))

        def exchange(address: str, body: Json) -> bytes:
            request = requests.Request("POST", address, json=body).prepare()
            answer = adapter.send(request, stream=True, timeout=_remaining(deadline))
            try:
                if answer.status_code == 401 and credentials is not None:
                    raise _token_refused(credentials)
                if answer.status_code != 200:
                    raise InputError(
                        f"Label Studio did not take the personal access token ({answer.status_code}): "
                        "check LABEL_STUDIO_URL"
                    )
                return bytes(answer.raw.read(_MAX_TOKEN_ANSWER_BYTES, decode_content=True))
            finally:
                answer.close()

        answer = send()
        if answer.status_code == 401 and credentials is not None and is_personal(credentials.token):
            answer.close()
            answer = send(refused=str(prepared.headers["Authorization"]))
        return answer

    def _save(self, answer: requests.Response, file: IO[bytes], url: str) -> None:
        """The body, byte for byte, into the file."""
        too_large = InputError(
            f"{_shown(url)} is larger than {self._max_bytes} bytes: FETCH_MAX_BYTES is the limit"
        )
        if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise InputError(f"{_shown(url)} is sent compressed, though that was not asked for")
        if int(answer.headers.get("Content-Length") or 0) > self._max_bytes:
            raise too_large
        received = 0
        for chunk in answer.raw.stream(_CHUNK_BYTES, decode_content=False):
            received += len(chunk)
            if received > self._max_bytes:
                raise too_large
            file.write(chunk)

    def _adapter(self, label_studio: LabelStudio | None) -> CheckedAdapter:
        """The connections of one Label Studio's tasks: kept apart, since each may go to its own origin."""
        with self._lock:
            adapter = self._adapters.pop(label_studio, None) or CheckedAdapter(self._check_for(label_studio))
            self._adapters[label_studio] = adapter
            if len(self._adapters) > _MAX_ADAPTERS:
                self._adapters.popitem(last=False)[1].close()
            return adapter

    def _check_for(self, label_studio: LabelStudio | None) -> Callable[[str, str, int], list[str]]:
        own = label_studio.origin if label_studio else None

        def check(scheme: str, host: str, port: int) -> list[str]:
            bare = host.strip("[]").lower()
            is_own = (scheme, bare, port) == own
            return checked_addresses(host, port, (bare,) if is_own else self._allowed_hosts)

        return check

    @contextmanager
    def _temporary_file(self) -> Iterator[IO[bytes]]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - closed below
        except OSError as error:
            raise InputError(f"MODEL_DIR cannot be written to: {error.strerror}") from None
        with file:
            yield file


def _prepared(address: str) -> requests.PreparedRequest | None:
    """The request for an address, spelled as it is checked and sent; None if it is no plain address."""
    try:
        prepared = requests.Request("GET", address, headers={"Accept-Encoding": "identity"}).prepare()
    except (requests.RequestException, ValueError):
        return None
    return prepared if origin_of(prepared.url or "")[0] else None


def _bad_redirect(url: str) -> InputError:
    """Says nothing of the target, which a server has told us."""
    return InputError(
        f"{_shown(url)} redirects to where nothing may be fetched: ALLOWED_HOSTS can allow private hosts"
    )


def _require_success(
    answer: requests.Response, url: str, credentials: LabelStudio | None, label_studio: LabelStudio | None
) -> None:
    status = answer.status_code
    if status == 200:
        return
    answer.close()
    if status in (401, 403) and credentials is not None:
        raise _token_refused(credentials, status)
    own = label_studio is not None and origin_of(url) == label_studio.origin
    where = f"Label Studio answers {status} for" if own else f"There is an answer {status} at"
    raise InputError(f"{where} {_shown(url)}: the task needs a file that can be had there")


def _token_refused(label_studio: LabelStudio, status: int = 401) -> InputError:
    """Which token to make, and where: legacy tokens, which `/setup` brings, are off by default now."""
    if not label_studio.token:
        said = f"Label Studio wants a token to give its files ({status})"
    elif status == 403:
        said = "Label Studio does not let the token's owner read this file (403)"
    else:
        said = f"Label Studio refused the {kind_of(label_studio.token)} (401)"
    return InputError(
        f"{said}: make a personal access token there, under Account & Settings, "
        "and set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY"
    )


def _own_error(error: Exception, url: str) -> Exception:
    """The error of our own for whatever went wrong; it repeats nothing that a server said."""
    if isinstance(error, (InputError, AddressRefusedError)):
        return error
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return _too_slow(url)
    if isinstance(error, (requests.exceptions.SSLError, urllib3.exceptions.SSLError)):
        return InputError(f"{_shown(url)} has no certificate that can be trusted")
    if isinstance(error, requests.ConnectionError):
        return InputError(f"{_shown(url)} cannot be reached: check the address and the network")
    if isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError, HTTPException, OSError)):
        return InputError(f"{_shown(url)} cannot be fetched: the connection broke off")
    return InputError(f"{_shown(url)} cannot be fetched: what answers there does not speak HTTP well")


def _too_slow(url: str) -> InputError:
    return InputError(f"{_shown(url)} could not be fetched in time: FETCH_TIMEOUT is the limit")


def _remaining(deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining


def content_type_of(media_type: str) -> tuple[str, str | None]:
    """What `text/plain; charset=utf-8` says: the type, in lower case, and the encoding, if it has one."""
    kind, *parameters = media_type.split(";")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return kind.strip().lower(), value.strip().strip("\"'")
    return kind.strip().lower(), None


def _shown(url: str) -> str:
    """The address for a person: without its query, which may hold a signature."""
    try:
        parts = urlsplit(url)
        text = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    except ValueError:
        text = "The address"
    return text if len(text) <= 100 else f"{text[:70]}...{text[-25:]}"
