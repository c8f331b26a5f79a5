"""Label Studio's tokens: which kind one is, what is wrong with it, and the header that shows it.

A legacy token is sent as it is. A personal access token is a JSON Web Token that only `/api/token/refresh/`
gets to see: it gives an access token, which lasts some minutes (Label Studio 1.23.2, jwt_auth).
"""

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from llm_backend.label_studio.expiring import Expiring
from llm_backend.operations.redaction import hide
from llm_backend.values import Json

WHERE_TOKENS_ARE = "make a personal access token in Label Studio's Account & Settings"
_SECONDS_LEFT = 30  # an access token is replaced before it expires on the way
_MOST_TOKENS = 100

# Posts JSON to an address of Label Studio and gives the body of its answer 200; raises for any other answer.
Exchange = Callable[[str, Json], bytes]


class AccessTokens:
    """Makes the headers that show tokens; keeps the access tokens that it was given. Safe for threads."""

    def __init__(self) -> None:
        self._kept: Expiring[tuple[str, str], str] = Expiring(_MOST_TOKENS)

    def header(self, url: str, token: str, exchange: Exchange, *, refused: str = "") -> str:
        """The value of `Authorization` for this token and the Label Studio at `url`.

        `refused` is a header that was answered with 401: its access token is replaced, unless another
        thread has done so.

        Raises:
            ValueError: the answer holds no access token.
        """
        if not is_personal(token):
            return f"Token {token}"
        access = self._kept.get((url, token))
        if access is None or f"Bearer {access}" == refused:
            access = _access_token(exchange(f"{url}/api/token/refresh/", {"refresh": token}))
            hide(access)
            expires = (claims(access) or {}).get("exp")
            seconds = expires - time.time() - _SECONDS_LEFT if isinstance(expires, (int, float)) else 0.0
            self._kept.put((url, token), access, seconds)
        return f"Bearer {access}"


def is_personal(token: str) -> bool:
    """Whether this is a personal access token, which must not be sent as it is; else it is a legacy token."""
    return claims(token) is not None


def kind_of(token: str) -> str:
    """The kind of the token, as people are told of it."""
    return "personal access token" if is_personal(token) else "legacy token"


def problem_of(token: str) -> str | None:
    """What is wrong with the value of LABEL_STUDIO_API_KEY, as far as it tells that itself."""
    if not token:
        return f"no token: {WHERE_TOKENS_ARE}, and set LABEL_STUDIO_API_KEY"
    said = claims(token)
    if said is None:
        return None
    if token.count(".") != 2:
        return (
            "LABEL_STUDIO_API_KEY is cut off: Label Studio shows the whole token only once, when it is "
            "made; revoke it and make another one"
        )
    if said.get("token_type") == "access":
        return (
            "LABEL_STUDIO_API_KEY is an access token, which lasts a few minutes: set the personal access "
            "token itself, of which it was made"
        )
    expires = said.get("exp")
    if isinstance(expires, (int, float)) and expires < time.time():
        day = datetime.fromtimestamp(max(0, expires), UTC).date()
        return f"LABEL_STUDIO_API_KEY has expired on {day}: {WHERE_TOKENS_ARE}"
    return None


def claims(token: str) -> Json | None:
    """What a JSON Web Token says of itself, unverified; None when the token is none. It may be cut off."""
    parts = token.split(".")
    try:
        header, said = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2]
        )
    except (ValueError, RecursionError):
        return None
    return said if isinstance(header, dict) and isinstance(said, dict) else None


def _access_token(body: bytes) -> str:
    try:
        access = json.loads(body)["access"]
    except (KeyError, TypeError, RecursionError):
        access = None
    if not isinstance(access, str) or not access:
        raise ValueError("no access token")
    return access
