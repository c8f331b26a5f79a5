"""What a reply in free text says of one control, where it is no label that is looked for."""

import re
from typing import Any

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w]|\.\d)")
_WORDS_OF_A_SHORT_REPLY = 8


def own_line(reply: str, name: str) -> str:
    """What stands behind `name:` in a line of its own."""
    found = re.search(rf"(?im)^[^\w\n]*{re.escape(name)}\W{{0,3}}\s*[:=]\s*(.+)$", reply)
    return found.group(1).strip() if found else ""


def answer_in(reply: str, name: str) -> str:
    """The control's own line, else a reply that is too short to be about anything else."""
    return own_line(reply, name) or (reply if len(reply.split()) <= _WORDS_OF_A_SHORT_REPLY else "")


def only_number(text: str) -> str | None:
    """The one number in a text; None where there are several, or none."""
    numbers = set(_NUMBER.findall(text.replace(",", "") if re.search(r"\d,\d{3}\b", text) else text))
    return numbers.pop() if len(numbers) == 1 else None


def as_number(raw: Any) -> float | None:
    """A JSON value as a number; None where it is none, or too large to be meant."""
    if isinstance(raw, bool) or raw is None:
        return None
    try:
        number = float(raw)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if abs(number) < 1e15 else None


def shortest(number: float) -> float:
    """An integer where the number is one."""
    return int(number) if number == int(number) else number
