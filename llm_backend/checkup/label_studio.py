"""Label Studio as an operator finds it: reached or not, and whether it takes the token.

The answers that are told apart here are those of Label Studio 1.23.2; tests/test_checkup.py has them.
"""

import base64
import json
import socket
import ssl
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import httpx
from label_studio_sdk.client import LabelStudio
from label_studio_sdk.core.api_error import ApiError

from llm_backend.checkup.findings import Finding, ok
from llm_backend.errors import BackendError
from llm_backend.settings import Settings
from llm_backend.values import Json

_CALL_SECONDS = 10.0
_WHERE_TOKENS_ARE = "make a personal access token in Label Studio's Account & Settings"
_LEGACY, _PERSONAL = "legacy token", "personal access token"

# What Label Studio's 401 says → what is wrong with the token, and what to do
_REFUSALS = {
    "legacy token authentication has been disabled": "is a legacy token, and this Label Studio has those "
    f"switched off: {_WHERE_TOKENS_ARE}",
    "Token is blacklisted": f"has been revoked: {_WHERE_TOKENS_ARE}",
    "Token is invalid": "is a personal access token that this Label Studio has not made: "
    f"{_WHERE_TOKENS_ARE}",
    "Invalid token.": "is a legacy token that no user of this Label Studio has: copy it again, or "
    f"{_WHERE_TOKENS_ARE}",
    "credentials were not provided": "is a personal access token, and this Label Studio has those switched "
    "off: switch them on in Organization > Access Token Settings",
}


class VisitError(BackendError):
    """Label Studio cannot be used; the reason says what to do."""

    code = "label_studio"


class Visit:
    """What this server can ask of Label Studio. `client` is None until the token has been taken."""

    def __init__(self, settings: Settings) -> None:
        self.url = settings.label_studio_url or ""
        key = settings.label_studio_api_key
        self._token = key.get_secret_value() if key else ""
        # Redirects are not followed: a POST would arrive as a GET.
        self._http = httpx.Client(timeout=_CALL_SECONDS, follow_redirects=False)
        self.client: LabelStudio | None = None

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def arrive(self) -> Finding:
        """Reaches Label Studio and shows the token.

        Raises:
            VisitError: it is not there, is something else, or refuses the token.
        """
        version = self._version()
        kind = self._kind_of_token()
        try:
            client = LabelStudio(
                base_url=f"{self.url}/", api_key=self._token, httpx_client=self._http, max_retries=0
            )
            user = client.users.whoami().email
        except ApiError as error:
            raise VisitError(self._refusal(error)) from None
        except httpx.HTTPError as error:
            raise VisitError(unreachable(self.url, error)) from None
        self.client = client
        return ok(f"Label Studio: {self.url}, version {version}, takes the {kind} of {user}")

    def _version(self) -> str:
        try:
            answer = self._http.get(f"{self.url}/api/version")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise VisitError(unreachable(self.url, error)) from None
        if answer.is_redirect:
            target = urlsplit(answer.headers.get("Location", ""))
            to = f" to {target.scheme}://{target.netloc.rpartition('@')[2]}" if target.netloc else ""
            raise VisitError(f"{self.url} redirects{to}: set LABEL_STUDIO_URL to the address where that ends")
        try:
            return str(answer.json()["release"])
        except (ValueError, KeyError, TypeError):
            raise VisitError(
                f"what answers at {self.url} is not Label Studio (status {answer.status_code} for "
                "/api/version): check LABEL_STUDIO_URL"
            ) from None

    def _kind_of_token(self) -> str:
        """Legacy token or personal access token, as the token itself tells.

        Raises:
            VisitError: it is none of the two, or has expired.
        """
        if not self._token:
            raise VisitError(f"no token: {_WHERE_TOKENS_ARE}, and set LABEL_STUDIO_API_KEY")
        claims = _claims(self._token)
        if claims is None:
            return _LEGACY
        if self._token.count(".") != 2:
            raise VisitError(
                "LABEL_STUDIO_API_KEY is cut off: Label Studio shows the whole token only once, when it is "
                "made; revoke it and make another one"
            )
        if claims.get("token_type") == "access":
            raise VisitError(
                "LABEL_STUDIO_API_KEY is an access token, which lasts a few minutes: set the personal access "
                "token itself, of which it was made"
            )
        expires = claims.get("exp")
        if isinstance(expires, (int, float)) and expires < datetime.now(UTC).timestamp():
            day = datetime.fromtimestamp(expires, UTC).date()
            raise VisitError(f"LABEL_STUDIO_API_KEY has expired on {day}: {_WHERE_TOKENS_ARE}")
        return _PERSONAL

    def _refusal(self, error: ApiError) -> str:
        detail = _detail(error)
        for said, meaning in _REFUSALS.items() if error.status_code == 401 else ():
            if said in detail:
                return f"LABEL_STUDIO_API_KEY {meaning}"
        return (
            f"{self.url} refuses the token of LABEL_STUDIO_API_KEY (status {error.status_code}): "
            f"{_WHERE_TOKENS_ARE}"
        )


def refused_address(client: LabelStudio, url: str) -> str | None:
    """Why Label Studio does not call a model at this address, if it refuses such addresses at all.

    It is asked to connect the model to a project that cannot exist: the address is checked before that, and
    nothing is stored.
    """
    try:
        client.ml.create(url=url, project=0)
    except ApiError as error:
        detail = _detail(error)
        if "reserved network address" in detail:
            return (
                f"Label Studio does not call local addresses ({detail}): start it with "
                "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false"
            )
        if "resolve hostname" in detail:
            return f"{detail}, says Label Studio: the address must be one that its machine knows"
    return None


def unreachable(url: str, error: Exception) -> str:
    """Why an address cannot be reached, by what lies at the bottom of the client's error."""
    cause: BaseException | None = error
    while cause is not None:
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
        return f"{url} does not answer within {_CALL_SECONDS:.0f} s: check the address and firewalls"
    return f"{url} cannot be reached ({type(error).__name__}): check LABEL_STUDIO_URL"


def _detail(error: ApiError) -> str:
    body = error.body
    return str(body.get("detail", "")) if isinstance(body, dict) else ""


def _claims(token: str) -> Json | None:
    """What a JSON Web Token says of itself, unverified; None for what is none."""
    parts = token.split(".")
    try:
        header, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2]
        )
    except ValueError:
        return None
    return claims if isinstance(header, dict) and isinstance(claims, dict) else None


def as_dict(item: Any) -> Json:
    """What label-studio-sdk gives, as the JSON object that it was."""
    return dict(item.model_dump())
