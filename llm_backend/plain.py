"""Frozen values as plain JSON, and back: what is hashed, and what is stored of them.

Every field of a dataclass is walked, so that no list of fields can forget one.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

_KIND = "$"


def as_plain(value: Any) -> Any:
    """The value as JSON has it: a dataclass as an object of its fields and its name, a tuple as a list.

    Raises:
        TypeError: something in it has no such form, and so could not be hashed or read back.
    """
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [as_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
        return {_KIND: type(value).__name__, **named}
    raise TypeError(f"{type(value).__name__} has no plain form")


def from_plain(plain: Any, types: Mapping[str, type]) -> Any:
    """The value that `as_plain` has made plain; `types` has the dataclasses by name.

    Raises:
        ValueError: it was made by a program with other dataclasses.
    """
    if isinstance(plain, list):
        return tuple(from_plain(item, types) for item in plain)
    if isinstance(plain, dict):
        named = {name: from_plain(item, types) for name, item in plain.items() if name != _KIND}
        try:
            return types[plain[_KIND]](**named)
        except (KeyError, TypeError):
            raise ValueError("The value has another form than this program knows") from None
    return plain


def digest(value: Any) -> str:
    """Hex digest (SHA-256) of the whole value."""
    return hashlib.sha256(json.dumps(as_plain(value)).encode()).hexdigest()
