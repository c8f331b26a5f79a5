"""A task's data, as a labeling config names its parts: `$field`, `$a.b[0]`, or a text with such. No I/O."""

import json
import re
from collections.abc import Mapping
from typing import Any

from llm_backend.errors import InputError

_VARIABLE = re.compile(r"\$([\w.\[\]-]+)")
_STEP = re.compile(r"[^.\[\]]+")


def variable(template: str) -> str:
    """The path `a.b[0]` of a template that is just `$a.b[0]`; empty for any other text."""
    whole = _VARIABLE.fullmatch(template)
    return whole.group(1) if whole else ""


def value_at(path: str, data: Mapping[str, Any]) -> Any:
    """The field of that name, else what the path (`a.b[0]`) leads to; None where there is nothing."""
    if data.get(path) is not None:
        return data[path]
    found: Any = data
    for step in _STEP.findall(path):
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def filled(template: str, data: Mapping[str, Any]) -> Any:
    """The template filled from the task, as Label Studio does it: a `$field` alone gives the field as it is.

    Raises:
        InputError: the task lacks a field.
    """
    path = variable(template)
    if path:
        return _required(path, data)
    return _VARIABLE.sub(lambda match: str(_required(match.group(1), data)), template)


def as_text(value: Any) -> str:
    """A field as people and models read it: a text as it is, else as JSON; nothing for None."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _required(path: str, data: Mapping[str, Any]) -> Any:
    found = value_at(path, data)
    if found is None:
        has = ", ".join(map(str, data)) or "no fields"
        raise InputError(f"The task has no field {path}, which the labeling config reads; it has {has}")
    return found
