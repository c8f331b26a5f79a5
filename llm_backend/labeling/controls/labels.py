"""`<Labels>`: labels of pieces of a Text."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from llm_backend.errors import LabelingConfigError
from llm_backend.labeling.controls.base import (
    NULL,
    Finding,
    Form,
    Pick,
    items_of,
    object_schema,
    string_schema,
    strings_in,
    unique,
)
from llm_backend.labeling.controls.labelled import Labelled, config_labels
from llm_backend.labeling.tag import Tag
from llm_backend.values import Json


@dataclass(frozen=True)
class Labels(Labelled):
    """Labels of pieces of a Text. The model quotes them; where a quote stands is looked up here.

    Offsets count code points, as Label Studio's Text does.
    """

    kind: ClassVar[str] = "labels"
    child: ClassVar[str] = "label"
    quotes: ClassVar[bool] = True

    @property
    def several(self) -> bool:
        return True

    @property
    def thinking_order(self) -> int:
        return 2

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        if tag.source.tag != "Text":
            raise LabelingConfigError("Labels are filled on a Text only")
        labels = config_labels(tag, cls.child)
        return cls(tag.name, labels, "" if labels else tag.field, header=tag.header)

    def wording(self, form: Form) -> str:
        if form == "lines":
            return (
                "For each piece of the text that one of these labels is for, a line: LABEL: the piece, "
                "copied exactly from the text. The labels:\n{labels}"
            )
        return super().wording(form)

    @property
    def wanted(self) -> str:
        return (
            'the pieces of the text that these labels are for. Each has its "quote", copied exactly from the '
            'text; its "label"; and its "occurrence": null for every place where the quote stands, 1 for the '
            "first, 2 for the second. The labels:\n{labels}"
        )

    def schema(self, *, enumerated: bool) -> Json:
        properties: Json = {
            "quote": {"type": "string"},
            "label": string_schema(self.options(), enumerated=enumerated),
            "occurrence": {"anyOf": [{"type": "integer"}, NULL]},
        }
        return {"type": "array", "items": object_schema(properties)}

    def read(self, raw: Any, text: str) -> list[Finding]:
        findings = []
        for path, item in items_of(raw):
            if not isinstance(item, dict):
                continue
            label = self._stored(item.get("label"))
            if label is None or not isinstance(item.get("quote"), str):
                continue
            occurrence = item.get("occurrence")
            for start, end in _places(item["quote"], occurrence, text):
                findings.append(Finding((start, end, label), (*path, "label")))
        return unique(findings, several=True)

    def match(self, reply: str, text: str) -> list[Finding]:
        findings = []
        for line in reply.splitlines():
            for label, quote in self._lines(re.sub(r"^\s*(?:[-*•]|\d+[.)])\s+|[*`]", "", line)):
                findings += [Finding((start, end, label)) for start, end in _places(quote, None, text)]
        return unique(findings, several=True)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in sorted(picks):
            if isinstance(pick, tuple):
                start, end, label = pick
                yield {"start": start, "end": end, "text": text[start:end], "labels": [label]}, [pick]

    def from_values(self, values: Iterable[Json]) -> list[list[Any]]:
        """[start, end, label] of each piece, each once, sorted."""
        pieces = {
            (start, end, label)
            for value in values
            if type(start := value.get("start")) is int and type(end := value.get("end")) is int
            for label in strings_in([value], "labels")
            if 0 <= start < end
        }
        return sorted(list(piece) for piece in pieces)

    def _stored(self, written: Any) -> str | None:
        if isinstance(written, list) and len(written) == 1:
            [written] = written
        label = self.label_of(written) if isinstance(written, str) else None
        return label.stored if label else None

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
