"""JSON in a reply: all of it, in a fence, or between words.

`find_object` is for the JSON that was asked for. Its values know where they stand in the text, because a
value's tokens tell how probable it was, and a text that ends too early, because a model ran out of tokens,
gives what there is of it. `find_value` is for JSON that nobody asked for, which must be whole.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

_SPACE = re.compile(r"[ \t\r\n]*")
_ATOM = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null")
_STRING_END = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)
_FENCE = re.compile(r"```(?:json|JSON|javascript|js)?\s*([\[{].*?[\]}])\s*```", re.DOTALL)
_STARTS_TRIED = 8
_DECODER = json.JSONDecoder()

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Located:
    """A JSON value, where it starts and ends in the text, and what it consists of.

    A string or number with which the text ends is not `complete`: it may have gone on.
    """

    value: Any
    start: int
    end: int
    members: Mapping[str, "Located"] = field(default_factory=dict)
    items: Sequence["Located"] = ()
    complete: bool = True

    def at(self, path: Sequence[str | int]) -> "Located | None":
        """The value that a path of keys and positions leads to."""
        found: Located | None = self
        for step in path:
            if found is None:
                return None
            if isinstance(step, str):
                found = found.members.get(step)
            else:
                found = found.items[step] if step < len(found.items) else None
        return found


def find_object(text: str) -> Located | None:
    """The first JSON object in the text: all of it, in a fence, or between words."""
    found = _first(text, r"\{", _value)
    return next((located for located in found if located.members), None)


def find_value(text: str) -> Any:
    """The first JSON object or list that is not empty, of the first fence that holds one if there is such.

    Single quotes count as double ones. None where there is none.
    """
    fenced = _FENCE.search(text)
    text = fenced.group(1) if fenced else text.strip()
    opening = r"^[\[{]" if text.startswith(("[", "{")) else r"[\[{]"
    return next(filter(None, _first(text, opening, _decoded)), None)


def _first(text: str, opening: str, read: Callable[[str, int], Found]) -> Iterator[Found]:
    """What `read` gives at each of the first places where a value may open and where there is one."""
    for match in itertools.islice(re.finditer(opening, text), _STARTS_TRIED):
        with contextlib.suppress(ValueError, RecursionError):
            yield read(text, match.start())


def _decoded(text: str, start: int) -> Any:
    """The whole value at a position. Raises ValueError where there is none."""
    try:
        return _DECODER.raw_decode(text, start)[0]
    except ValueError:
        return _DECODER.raw_decode(text.replace("'", '"'), start)[0]


def _value(text: str, start: int) -> Located:
    """The value at a position. Raises ValueError where there is none."""
    start = _after_space(text, start)
    if text.startswith("{", start):
        return _object(text, start)
    if text.startswith("[", start):
        return _array(text, start)
    if text.startswith('"', start):
        return _string(text, start)
    atom = _ATOM.match(text, start)
    if atom is None:
        raise ValueError(f"no JSON value at {start}")
    return Located(json.loads(atom.group()), start, atom.end(), complete=atom.end() < len(text))


def _object(text: str, start: int) -> Located:
    members: dict[str, Located] = {}
    position = start + 1
    while True:
        position = _after_space(text, position)
        if position >= len(text) or text[position] == "}":
            break
        if text[position] == "," and members:
            position = _after_space(text, position + 1)
            if position >= len(text):
                break
        if text[position] != '"':
            raise ValueError(f"no key at {position}")
        key = _string(text, position)
        position = _after_space(text, key.end)
        if position >= len(text):
            break
        if text[position] != ":":
            raise ValueError(f"no colon at {position}")
        position = _after_space(text, position + 1)
        if position >= len(text):
            break
        member = _value(text, position)
        members[key.value] = member
        position = member.end
    value = {key: member.value for key, member in members.items()}
    return Located(value, start, min(position + 1, len(text)), members=members)


def _array(text: str, start: int) -> Located:
    items: list[Located] = []
    position = start + 1
    while True:
        position = _after_space(text, position)
        if position >= len(text) or text[position] == "]":
            break
        if text[position] == "," and items:
            position = _after_space(text, position + 1)
            if position >= len(text):
                break
        item = _value(text, position)
        position = item.end
        if item.complete:
            items.append(item)
    return Located([item.value for item in items], start, min(position + 1, len(text)), items=items)


def _string(text: str, start: int) -> Located:
    found = _STRING_END.match(text, start + 1)
    if found:
        return Located(json.loads(text[start : found.end()], strict=False), start, found.end())
    cut_off = re.sub(r"\\(?:u[0-9a-fA-F]{0,3})?$", "", text[start + 1 :])
    return Located(json.loads(f'"{cut_off}"', strict=False), start, len(text), complete=False)


def _after_space(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position
