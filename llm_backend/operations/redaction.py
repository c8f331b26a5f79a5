"""What no log may say: the secrets that this process knows, and whatever looks like one.

Every pattern consumes what it has looked at, so the time is linear in the length of the text.
"""

import base64
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import quote, quote_plus

MASK = "***"
_SHORTEST = 6  # what is shorter stands in other words by chance: only the patterns below hide it
_MOST_LEARNT = 1000  # anybody may connect a project with another key; those used last are kept

_NAMES = (
    r"(?:api[-_]?key|(?:access|refresh|security|session|auth|id)[-_]?token|client[-_]?secret"
    r"|(?:secret|access)[-_]?key(?:[-_]?id)?|signature|credential|passw(?:or)?d|passphrase)"
)
_SHORT_NAMES = r"(?:secret|token|(?<![a-z])(?:sig|pwd|pass))"
_AFTER_TOKEN = ("token=", "token:", "token%", 'token"', "token'", "token\\", "token ")
_QUOTE = r"""(\\{0,3}["'])?"""  # also as it is inside of JSON inside of JSON
_VALUE = r"""(?(2)[^"'\\\r\n]*+|[^\s"'\\&,;<>(){}\[\]]++)"""  # to the end of the quotes, or of the word


def _without_credentials(url: re.Match[str]) -> str:
    """An address from its `://` on, without user, password, and query, which may be a signature."""
    before, question_mark, _ = url[2].partition("?")
    authority, slash, path = before.partition("/")
    _, at, host = authority.rpartition("@")
    bare = f"{url[1]}{MASK if at else ''}{at}{host}{slash}{path}"
    return f"{bare}?{MASK}" if question_mark else bare


# Each with what a text must hold, in small letters, for the pattern to be tried at all.
_PATTERNS: tuple[tuple[tuple[str, ...], str, str | Callable[[re.Match[str]], str]], ...] = (
    ((":/", ":\\"), r"""(:\\{0,2}/\\{0,2}/)((?:[^\s"'<>\\]|\\{1,2}/)++)""", _without_credentials),
    (
        ("authorization",),
        rf"""(authorization\b\\{{0,3}}["']?\s{{0,4}}[:=,]\s{{0,4}}(?:b(?=["']))?){_QUOTE}"""
        r"""(?(2)[^"'\\\r\n]*+|(?:[a-z-]{1,30}+\s{1,4})?[^\s"'\\,;)}\]]++)""",
        rf"\1\2{MASK}",
    ),
    (
        ("cookie",),
        rf"""(cookie\b\\{{0,3}}["']?\s{{0,4}}[:=]\s{{0,4}}){_QUOTE}{_VALUE}""",
        rf"\1\2{MASK}",
    ),
    (
        ("key", *_AFTER_TOKEN, "secret", "signature", "credential", "passw", "passphrase"),
        rf"""({_NAMES}\\{{0,3}}["']?\s{{0,4}}(?:[:=]|%3d)\s{{0,4}}){_QUOTE}{_VALUE}""",
        rf"\1\2{MASK}",
    ),
    (
        (*_AFTER_TOKEN, "secret", "pass", "sig", "pwd"),
        rf"""({_SHORT_NAMES}(?:=|%3d|\\{{0,3}}["']\s{{0,4}}:\s{{0,4}})){_QUOTE}{_VALUE}""",
        rf"\1\2{MASK}",
    ),
    (("bearer",), r"\b(bearer\s{1,4})[\w.~+/=-]++", rf"\1{MASK}"),
    # "Basic authentication" and "token refused" are words; credentials hold digits, signs or mixed case.
    (
        ("basic ", "token "),
        r"\b((?:basic|token)\s{1,4})(?=[\w.~]*+[+/=-]|[a-z_.~]*+\d|(?-i:[A-Z]*+[a-z]++[A-Z]))[\w.~+/=-]{6,}+",
        rf"\1{MASK}",
    ),
    (("sk-", "gsk_", "hf_", "xai-"), r"\b(?:sk-|gsk_|hf_|xai-)[\w-]{6,}+", MASK),
    (("eyj",), r"\beyJ[\w-]{5,}+\.[\w-]*+(?:\.[\w-]*+)?", MASK),
)
_COMPILED = tuple((hints, re.compile(pattern, re.IGNORECASE), by) for hints, pattern, by in _PATTERNS)


class Redactor:
    """Hides the secrets that it knows, however they are written, and whatever looks like one. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, set[str]] = {}  # each with the ways to write it
        self._learnt: OrderedDict[str, set[str]] = OrderedDict()
        self._known: tuple[str, ...] = ()

    def hide(self, secret: str, *, forever: bool = False) -> None:
        """Hides the secret from now on; without `forever` until a thousand others have come."""
        if len(secret) < _SHORTEST or secret in self._kept:
            return
        with self._lock:
            if secret in self._learnt and not forever:
                self._learnt.move_to_end(secret)
                return
            (self._kept if forever else self._learnt)[secret] = _ways_to_write(secret)
            if len(self._learnt) > _MOST_LEARNT:
                self._learnt.popitem(last=False)
            ways = set().union(*self._kept.values(), *self._learnt.values())
            self._known = tuple(sorted(ways, key=len, reverse=True))

    def redact(self, text: str) -> str:
        """The text with `***` for each secret."""
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, MASK)
        small = text.lower()
        for hints, pattern, by in _COMPILED:
            if any(hint in small for hint in hints):
                text = pattern.sub(by, text)
        return text


def basic_credentials(user: str, password: str) -> tuple[str, ...]:
    """What Basic auth sends for the two, in the encodings that clients use."""
    pair = f"{user}:{password}"
    encoded = {pair.encode(encoding, "ignore") for encoding in ("utf-8", "latin-1")}
    return tuple(base64.b64encode(some).decode() for some in encoded)


def _ways_to_write(secret: str) -> set[str]:
    """The secret as it is, and as URLs, JSON and Python's `repr` show it."""
    as_bytes = secret.encode("utf-8", "surrogatepass")
    ways = {secret, repr(secret)[1:-1], repr(as_bytes)[2:-1], quote(as_bytes, safe=""), quote_plus(as_bytes)}
    ways |= {json.dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    return ways


_redactor = Redactor()  # logging is one for the whole process, and so is what it must not say
hide = _redactor.hide
redact = _redactor.redact
