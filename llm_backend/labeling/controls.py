"""The kinds of control that can be filled: what each asks of a model, and what it takes of its answer.

A control reads an answer into findings, one for each value that it names. Whatever is not a value that the
labeling config allows is left out here: label-studio-sdk's check lets wrong Taxonomy paths, numbers out of
range and several labels of a single choice pass.
"""

import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, ClassVar

from llm_backend.labeling.matching import Vocabulary, vocabulary
from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import value_at
from llm_backend.values import Json

# A value in the form in which replies are compared and counted: a label as Label Studio stores it, a path,
# a number, or (start, end, label).
Pick = str | float | tuple[Any, ...]
# Gives the text of an object of the task at hand.
Show = Callable[[Source], str]

_NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?![\w]|\.\d)")
_MAX_ENUMERATED_STEPS = 100
_WORDS_OF_A_SHORT_REPLY = 8
_PATH_SEPARATOR = " > "
NULL: Json = {"type": "null"}


@dataclass(frozen=True, slots=True)
class Finding:
    """A value that an answer names, and where in the control's JSON it stands."""

    pick: Pick
    path: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """One `<Choice>` or `<Label>`: the model is shown `value`; Label Studio stores `stored` (its alias)."""

    value: str
    stored: str
    hint: str = ""


@dataclass(frozen=True)
class Control:
    """A control tag that is filled. `header` is the text of the `<Header>` that stands before it."""

    name: str
    header: str = field(default="", kw_only=True)

    kind: ClassVar[str]
    closed: ClassVar[bool] = True
    several: ClassVar[bool] = False

    @property
    def section(self) -> str:
        """The section of `prompt_templates/controls.txt` that describes the control to a model."""
        return self.kind

    def for_task(self, data: Mapping[str, Any], show: Show) -> "Control":
        """The control as the task shows it: with the labels that come from its data.

        `show` gives the text of an object; a control asks it for what its question is about.
        """
        return self

    def fields(self) -> dict[str, str]:
        """What the section's placeholders stand for."""
        return {}

    def schema(self, *, enumerated: bool) -> Json:
        """The JSON schema of the control's property, in the subset that all strict modes know.

        Where the labels are not `enumerated`, because a schema takes only so many, they are plain strings.
        """
        raise NotImplementedError

    def options(self) -> tuple[str, ...]:
        """The strings that the schema enumerates."""
        return ()

    def read(self, raw: Any, text: str) -> list[Finding]:
        """What a JSON value names; `text` is what the model has read."""
        raise NotImplementedError

    def match(self, reply: str, text: str) -> list[Finding]:
        """What a reply in free text names."""
        raise NotImplementedError

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        """The `value` of each region that the picks make, and the picks that it stands for."""
        raise NotImplementedError


@dataclass(frozen=True)
class TextArea(Control):
    """A text that the model writes."""

    kind: ClassVar[str] = "textarea"
    closed: ClassVar[bool] = False
    is_response: bool = False

    @property
    def section(self) -> str:
        return "response" if self.is_response else self.kind

    def schema(self, *, enumerated: bool) -> Json:
        return {"type": "string"}

    def text_of(self, raw: Any) -> str:
        """The text that a JSON value stands for."""
        if isinstance(raw, list):
            return "\n".join(filter(None, map(self.text_of, raw)))
        return str(raw).strip() if isinstance(raw, (str, int, float)) else ""


@dataclass(frozen=True)
class Choices(Control):
    """Labels, of which one or several are ticked. `labels_from` is the field that brings them."""

    labels: tuple[Label, ...]
    multiple: bool
    labels_from: str = ""

    kind: ClassVar[str] = "choices"

    @property
    def several(self) -> bool:  # type: ignore[override]
        return self.multiple

    @property
    def section(self) -> str:
        return "choices-multiple" if self.multiple else "choices-single"

    def for_task(self, data: Mapping[str, Any], show: Show) -> "Choices":
        return replace(self, labels=_task_labels(self.labels_from, data)) if self.labels_from else self

    def fields(self) -> dict[str, str]:
        return {"labels": _described(self.labels)}

    def options(self) -> tuple[str, ...]:
        return self._vocabulary[0]

    def schema(self, *, enumerated: bool) -> Json:
        label = _string(self.options(), enumerated=enumerated)
        return {"type": "array", "items": label} if self.multiple else label

    def read(self, raw: Any, text: str) -> list[Finding]:
        findings = [
            Finding(self.labels[number].stored, path)
            for path, item in _items(raw)
            for number in self._numbers(item)
        ]
        return _unique(findings, several=self.multiple)

    def match(self, reply: str, text: str) -> list[Finding]:
        numbers = self._matcher.match(reply, multiple=self.multiple, name=self.name)
        return _unique([Finding(self.labels[number].stored) for number in numbers], several=self.multiple)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        ticked = [label.stored for label in self.labels if label.stored in picks]
        if ticked:
            yield {"choices": list(dict.fromkeys(ticked))}, picks

    def _numbers(self, item: Any) -> tuple[int, ...]:
        if not isinstance(item, (str, int, float)) or isinstance(item, bool):
            return ()
        number = self._matcher.exact(str(item))
        if number is not None:
            return (number,)
        stored = [n for n, label in enumerate(self.labels) if label.stored == str(item)]
        return tuple(stored[:1]) or self._matcher.match(str(item), multiple=self.multiple)

    @functools.cached_property
    def _vocabulary(self) -> tuple[tuple[str, ...], Vocabulary]:
        values = tuple(label.value for label in self.labels)
        return tuple(dict.fromkeys(values)), vocabulary(values)

    @property
    def _matcher(self) -> Vocabulary:
        return self._vocabulary[1]


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a Taxonomy: its path as shown, its path as stored, and whether others are below it."""

    shown: tuple[str, ...]
    stored: tuple[str, ...]
    is_leaf: bool
    hint: str = ""


@dataclass(frozen=True)
class Taxonomy(Control):
    """Paths of a tree, of which any number are ticked; with `leafs_only` only those that end in a leaf."""

    nodes: tuple[Node, ...]
    leafs_only: bool
    labels_from: str = ""

    kind: ClassVar[str] = "taxonomy"
    several: ClassVar[bool] = True

    @property
    def section(self) -> str:
        return "taxonomy-leafs" if self.leafs_only else self.kind

    def for_task(self, data: Mapping[str, Any], show: Show) -> "Taxonomy":
        if not self.labels_from:
            return self
        return replace(self, nodes=tuple(task_nodes(value_at(self.labels_from, data))))

    def fields(self) -> dict[str, str]:
        return {"labels": self._tree}

    def options(self) -> tuple[str, ...]:
        return tuple(self._by_path)

    def schema(self, *, enumerated: bool) -> Json:
        return {"type": "array", "items": _string(self.options(), enumerated=enumerated)}

    def read(self, raw: Any, text: str) -> list[Finding]:
        if isinstance(raw, list) and raw and all(isinstance(item, str) for item in raw):
            whole = self._node(_PATH_SEPARATOR.join(raw))
            if len(raw) > 1 and whole:  # one path, written as Label Studio writes it
                return [Finding(whole.stored)]
        findings = []
        for path, item in _items(raw):
            written = _PATH_SEPARATOR.join(map(str, item)) if isinstance(item, list) else item
            node = self._node(written) if isinstance(written, str) else None
            if node:
                findings.append(Finding(node.stored, path))
        return _unique(findings, several=True)

    def match(self, reply: str, text: str) -> list[Finding]:
        paths, shown = self._matchers
        numbers = paths.match(reply, multiple=True, name=self.name)
        nodes = [self._selectable[number] for number in numbers]
        if not nodes:
            names = tuple(self._by_name)
            nodes = [self._by_name[names[n]] for n in shown.match(reply, multiple=True, name=self.name)]
        return _unique([Finding(node.stored) for node in nodes], several=True)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        if picks:
            yield {"taxonomy": [list(pick) for pick in picks if isinstance(pick, tuple)]}, picks

    def _node(self, written: str) -> Node | None:
        """The node that is meant: by its whole path, or by its own name where only one has it."""
        folded = _folded(re.sub(r"\s*(?:>|/|::|→|»)\s*", _PATH_SEPARATOR, written))
        return self._by_folded_path.get(folded) or self._by_name.get(_folded(written))

    @functools.cached_property
    def _selectable(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.is_leaf or not self.leafs_only)

    @functools.cached_property
    def _by_path(self) -> dict[str, Node]:
        return {_PATH_SEPARATOR.join(node.shown): node for node in self._selectable}

    @functools.cached_property
    def _by_folded_path(self) -> dict[str, Node]:
        by_path: dict[str, Node] = {}
        for node in self._selectable:
            by_path.setdefault(
                _folded(re.sub(r"\s*/\s*", _PATH_SEPARATOR, _PATH_SEPARATOR.join(node.shown))), node
            )
            by_path.setdefault(_folded(_PATH_SEPARATOR.join(node.stored)), node)
        return by_path

    @functools.cached_property
    def _by_name(self) -> dict[str, Node]:
        """Nodes by their own name, without those whose name stands at several places of the tree."""
        named: dict[str, list[Node]] = {}
        for node in self.nodes:
            named.setdefault(_folded(node.shown[-1]), []).append(node)
        selectable = set(self._selectable)
        return {name: nodes[0] for name, nodes in named.items() if len(nodes) == 1 and nodes[0] in selectable}

    @functools.cached_property
    def _matchers(self) -> tuple[Vocabulary, Vocabulary]:
        paths = tuple(" ".join(node.shown) for node in self._selectable)
        return vocabulary(paths), vocabulary(tuple(self._by_name))

    @functools.cached_property
    def _tree(self) -> str:
        lines = []
        for node in self.nodes:
            hint = f" ({node.hint})" if node.hint else ""
            lines.append(f"{'  ' * len(node.shown)}{node.shown[-1]}{hint}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Rating(Control):
    """Stars, from one to `max_rating`."""

    max_rating: int

    kind: ClassVar[str] = "rating"

    def fields(self) -> dict[str, str]:
        return {"max": str(self.max_rating)}

    def schema(self, *, enumerated: bool) -> Json:
        return {"type": "integer", "enum": list(range(1, self.max_rating + 1))}

    def read(self, raw: Any, text: str) -> list[Finding]:
        number = _number(raw)
        if number is None or number != int(number) or not 1 <= number <= self.max_rating:
            return []
        return [Finding(int(number))]

    def match(self, reply: str, text: str) -> list[Finding]:
        answer = _answer_in(reply, self.name)
        answer = re.sub(rf"(?i)(\d)\s*(?:/|out of)\s*{self.max_rating}\b", r"\1", answer)
        stars = answer.count("⭐") or answer.count("★")
        return self.read(str(stars) if stars else _only_number(answer), text)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in picks:
            yield {"rating": pick}, [pick]


@dataclass(frozen=True)
class Number(Control):
    """A number within bounds, on a step; Label Studio counts steps from the minimum, or from zero."""

    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None

    kind: ClassVar[str] = "number"

    def fields(self) -> dict[str, str]:
        bounds = {"at least": self.minimum, "at most": self.maximum, "in steps of": self.step}
        said = [f"{name} {_shortest(value)}" for name, value in bounds.items() if value is not None]
        return {"bounds": ", " + ", ".join(said) if said else ""}

    def schema(self, *, enumerated: bool) -> Json:
        number: Json = {"type": "number"}
        if self.minimum is not None and self.maximum is not None and self.step:
            steps = int((self.maximum - self.minimum) / self.step + 1e-8)
            if 0 <= steps < _MAX_ENUMERATED_STEPS:
                values = [_shortest(round(self.minimum + n * self.step, 9)) for n in range(steps + 1)]
                number["enum"] = values
        return {"anyOf": [number, NULL]}

    def read(self, raw: Any, text: str) -> list[Finding]:
        number = _number(raw)
        if number is None or not self._fits(number):
            return []
        return [Finding(_shortest(number))]

    def match(self, reply: str, text: str) -> list[Finding]:
        return self.read(_only_number(_answer_in(reply, self.name)), text)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in picks:
            yield {"number": pick}, [pick]

    def _fits(self, number: float) -> bool:
        if self.minimum is not None and number < self.minimum:
            return False
        if self.maximum is not None and number > self.maximum:
            return False
        if not self.step:
            return True
        steps = (number - (self.minimum or 0.0)) / self.step
        return abs(steps - round(steps)) * self.step <= 1e-8


@dataclass(frozen=True)
class DateTime(Control):
    """A date, a time, or both, in the format that Label Studio's page reads it back in."""

    only: tuple[str, ...] = ()
    format: str = ""
    minimum: str = ""
    maximum: str = ""

    kind: ClassVar[str] = "datetime"

    @property
    def section(self) -> str:
        if self.only == ("time",):
            return "datetime-time"
        if self.only and "time" not in self.only:
            return "datetime-date"
        return self.kind

    def schema(self, *, enumerated: bool) -> Json:
        return {"anyOf": [{"type": "string"}, NULL]}

    def read(self, raw: Any, text: str) -> list[Finding]:
        if not isinstance(raw, (str, int)) or isinstance(raw, bool):
            return []
        moment = self._parsed(str(raw).strip())
        if moment is None:
            return []
        if self.only == ("time",):
            return [Finding(f"{moment:%H:%M}")]
        compared = f"{moment:%Y}" if "year" in self.only else f"{moment:%Y-%m-%d}"
        if (self.minimum and compared < self.minimum) or (self.maximum and compared > self.maximum):
            return []
        default = "%Y-%m-%d" if self.only and "time" not in self.only else "%Y-%m-%dT%H:%M"
        # Python leaves out the zeros of early years, where d3 and the page's own check want four digits.
        pattern = (self.format or default).replace("%Y", f"{moment.year:04d}")
        return [Finding(moment.strftime(pattern))]

    def match(self, reply: str, text: str) -> list[Finding]:
        answer = _answer_in(reply, self.name)
        pattern = (
            r"\b\d{1,2}:\d{2}\b"
            if self.only == ("time",)
            else r"\b\d{4}-\d{2}(?:-\d{2}(?:[T ]\d{2}:\d{2})?)?\b"
        )
        found = set(re.findall(pattern, answer))
        return self.read(found.pop(), text) if len(found) == 1 else []

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in picks:
            yield {"datetime": pick}, [pick]

    def _parsed(self, written: str) -> datetime | None:
        own = (self.format,) if self.format else ()
        for pattern in (*own, "%Y-%m-%d", "%H:%M", "%H:%M:%S", "%Y-%m", "%Y"):
            try:
                moment = datetime.strptime(written, pattern)  # noqa: DTZ007 - the page's times have no zone
            except ValueError:
                continue
            is_time = pattern.startswith("%H")
            return moment if is_time == (self.only == ("time",)) or pattern in own else None
        try:
            return datetime.fromisoformat(written).replace(tzinfo=None)
        except ValueError:
            return None


@dataclass(frozen=True)
class Pairwise(Control):
    """Which of two objects is chosen. `left` and `right` are what they show of the task at hand."""

    sources: tuple[Source, Source]
    left: str = ""
    right: str = ""

    kind: ClassVar[str] = "pairwise"

    def for_task(self, data: Mapping[str, Any], show: Show) -> "Pairwise":
        left, right = map(show, self.sources)
        return replace(self, left=left, right=right)

    def fields(self) -> dict[str, str]:
        return {"left": self.left, "right": self.right}

    def schema(self, *, enumerated: bool) -> Json:
        return {"type": "string", "enum": ["left", "right"]}

    def read(self, raw: Any, text: str) -> list[Finding]:
        number = vocabulary(("left", "right")).exact(raw) if isinstance(raw, str) else None
        return [] if number is None else [Finding(("left", "right")[number])]

    def match(self, reply: str, text: str) -> list[Finding]:
        numbers = vocabulary(("left", "right")).match(reply, multiple=False, name=self.name)
        return [Finding(("left", "right")[number]) for number in numbers]

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in picks:
            yield {"selected": pick}, [pick]


@dataclass(frozen=True)
class Labels(Control):
    """Labels of pieces of a Text. The model quotes them; where a quote stands is looked up here.

    Offsets count code points, as Label Studio's Text does.
    """

    labels: tuple[Label, ...]
    labels_from: str = ""

    kind: ClassVar[str] = "labels"
    several: ClassVar[bool] = True

    def for_task(self, data: Mapping[str, Any], show: Show) -> "Labels":
        return replace(self, labels=_task_labels(self.labels_from, data)) if self.labels_from else self

    def fields(self) -> dict[str, str]:
        return {"labels": _described(self.labels)}

    def options(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(label.value for label in self.labels))

    def schema(self, *, enumerated: bool) -> Json:
        properties: Json = {
            "quote": {"type": "string"},
            "label": _string(self.options(), enumerated=enumerated),
            "occurrence": {"anyOf": [{"type": "integer"}, NULL]},
        }
        return {"type": "array", "items": _object(properties)}

    def read(self, raw: Any, text: str) -> list[Finding]:
        findings = []
        for path, item in _items(raw):
            if not isinstance(item, dict):
                continue
            label = self._stored(item.get("label"))
            if label is None or not isinstance(item.get("quote"), str):
                continue
            occurrence = item.get("occurrence")
            for start, end in _places(item["quote"], occurrence, text):
                findings.append(Finding((start, end, label), (*path, "label")))
        return _unique(findings, several=True)

    def match(self, reply: str, text: str) -> list[Finding]:
        findings = []
        for line in reply.splitlines():
            for label, quote in self._lines(re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+|[*`]", "", line)):
                findings += [Finding((start, end, label)) for start, end in _places(quote, None, text)]
        return _unique(findings, several=True)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in sorted(picks):
            if isinstance(pick, tuple):
                start, end, label = pick
                yield {"start": start, "end": end, "text": text[start:end], "labels": [label]}, [pick]

    def _stored(self, written: Any) -> str | None:
        if isinstance(written, list) and len(written) == 1:
            [written] = written
        if not isinstance(written, str):
            return None
        number = vocabulary(tuple(label.value for label in self.labels)).exact(written)
        if number is not None:
            return self.labels[number].stored
        return next((label.stored for label in self.labels if label.stored == written), None)

    def _lines(self, line: str) -> Iterator[tuple[str, str]]:
        """`LABEL: quote`, `quote: LABEL`, `quote (LABEL)`, `quote - LABEL`; several quotes with commas."""
        for pattern in (
            r"(?P<a>[^:=]+)[:=](?P<b>.+)",
            r"(?P<a>.+)[(\[](?P<b>[^()\[\]]+)[)\]]\W*",
            r"(?P<a>.+?) [-–—>]+ (?P<b>.+)",
        ):
            found = re.fullmatch(pattern, line.strip())
            if not found:
                continue
            for label, quotes in ((found["a"], found["b"]), (found["b"], found["a"])):
                stored = self._stored(label.strip())
                if stored is not None:
                    parts = [quotes, *re.split(r"[,;]", quotes)]
                    yield from ((stored, part.strip().strip("\"'“”‘’«».").strip()) for part in parts)
                    return


def response_format(controls: Sequence[Control]) -> Json:
    """The strict JSON schema of a reply that fills the controls, one property each, in their order.

    All properties are required, no others allowed, and only keywords are used that the strict modes of
    OpenAI and Azure, and the grammars of Ollama, llama.cpp and vLLM, document: `type`, `enum`, `anyOf`,
    `properties`, `items`. Azure takes 500 enumerated values in all, and 7,500 characters where one enum has
    more than 250: labels beyond that are plain strings here, and checked when they come back. The name tells
    schemas apart, because an endpoint may refuse one and take another.
    """
    left = 500
    properties: Json = {}
    for control in controls:
        options = control.options()
        enumerated = 0 < len(options) <= left and (len(options) <= 250 or sum(map(len, options)) <= 7500)
        left -= len(options) if enumerated else 0
        properties[control.name] = control.schema(enumerated=enumerated)
    schema = _object(properties)
    digest = hashlib.sha256(json.dumps(schema).encode()).hexdigest()[:12]
    return {
        "type": "json_schema",
        "json_schema": {"name": f"labels_{digest}", "strict": True, "schema": schema},
    }


def task_nodes(items: Any, above: Node | None = None) -> Iterator[Node]:
    """The nodes of a tree that a task brings: objects with `value`, `alias`, `hint` and `children`."""
    for item in items if isinstance(items, list) else ():
        described = item if isinstance(item, dict) else {"value": item}
        value = described.get("value")
        if not isinstance(value, (str, int, float)):
            continue
        children = described.get("children") or []
        node = Node(
            shown=(*(above.shown if above else ()), str(value)),
            stored=(*(above.stored if above else ()), str(described.get("alias") or value)),
            is_leaf=not children,
            hint=str(described.get("hint") or ""),
        )
        yield node
        yield from task_nodes(children, node)


def _task_labels(field_name: str, data: Mapping[str, Any]) -> tuple[Label, ...]:
    """The labels of a list in the task: strings, or objects with `value`, `alias` and `hint`."""
    nodes = task_nodes(value_at(field_name, data))
    return tuple(Label(n.shown[0], n.stored[0], n.hint) for n in nodes if len(n.shown) == 1)


def _described(labels: Iterable[Label]) -> str:
    return "\n".join(f"  {label.value}{f' ({label.hint})' if label.hint else ''}" for label in labels)


def _string(options: tuple[str, ...], *, enumerated: bool) -> Json:
    return {"type": "string", "enum": list(options)} if enumerated else {"type": "string"}


def _object(properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _items(raw: Any) -> Iterator[tuple[tuple[int, ...], Any]]:
    """The items of a list, or the one value that is no list, with where they stand."""
    if isinstance(raw, list):
        yield from (((position,), item) for position, item in enumerate(raw))
    else:
        yield (), raw


def _unique(findings: Iterable[Finding], *, several: bool) -> list[Finding]:
    """Each pick once; where only one may be, several that differ are none."""
    by_pick: dict[Pick, Finding] = {}
    for finding in findings:
        by_pick.setdefault(finding.pick, finding)
    return list(by_pick.values()) if several or len(by_pick) == 1 else []


def _places(quote: str, occurrence: Any, text: str) -> list[tuple[int, int]]:
    """Where the quote stands: everywhere, or at its n-th place, counted from 1. Whole words count first."""
    quote = quote if quote in text else quote.strip()
    if not quote.strip():
        return []
    starts = [match.start() for match in re.finditer(re.escape(quote), text)]
    whole = [start for start in starts if _is_whole(text, start, start + len(quote))]
    places = [(start, start + len(quote)) for start in whole or starts]
    if isinstance(occurrence, int) and not isinstance(occurrence, bool) and occurrence > 0:
        return places[occurrence - 1 : occurrence]
    return places


def _is_whole(text: str, start: int, end: int) -> bool:
    before = text[start - 1 : start] + text[start]
    after = text[end - 1] + text[end : end + 1]
    return not re.fullmatch(r"\w\w", before) and not re.fullmatch(r"\w\w", after)


def own_line(reply: str, name: str) -> str:
    """What stands behind `name:` in a line of its own."""
    found = re.search(rf"(?im)^[^\w\n]*{re.escape(name)}\W{{0,3}}\s*[:=]\s*(.+)$", reply)
    return found.group(1).strip() if found else ""


def _answer_in(reply: str, name: str) -> str:
    """The control's own line, else a reply that is too short to be about anything else."""
    return own_line(reply, name) or (reply if len(reply.split()) <= _WORDS_OF_A_SHORT_REPLY else "")


def _only_number(text: str) -> str | None:
    numbers = set(_NUMBER.findall(text.replace(",", "") if re.search(r"\d,\d{3}\b", text) else text))
    return numbers.pop() if len(numbers) == 1 else None


def _number(raw: Any) -> float | None:
    if isinstance(raw, bool) or raw is None:
        return None
    try:
        number = float(raw)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < 1e15 else None


def _shortest(number: float) -> float:
    """An integer where the number is one."""
    return int(number) if number == int(number) else number


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
