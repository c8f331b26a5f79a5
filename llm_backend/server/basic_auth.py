"""Basic auth: who has the credentials of BASIC_AUTH_USER and BASIC_AUTH_PASS."""

import hmac

from flask import request

from llm_backend.settings import Settings


def is_trusted(settings: Settings) -> bool:
    """Whether the request carries the right credentials, or Basic auth is off."""
    return settings.basic_auth_user is None or has_credentials(settings)


def has_credentials(settings: Settings) -> bool:
    """Whether the request carries the right credentials; False where Basic auth is off."""
    if settings.basic_auth_user is None or settings.basic_auth_pass is None:
        return False
    given = request.authorization
    user, password = (given.username, given.password) if given else ("", "")
    user_is_right = _same(user or "", settings.basic_auth_user)
    password_is_right = _same(password or "", settings.basic_auth_pass.get_secret_value())
    return user_is_right and password_is_right


def _same(given: str, expected: str) -> bool:
    """Compares in a time that tells nothing of the expected text."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode("utf-8", "replace"))
