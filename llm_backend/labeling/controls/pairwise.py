"""`<Pairwise>`: which of two objects is chosen."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from llm_backend.errors import LabelingConfigError
from llm_backend.labeling.controls.base import Control, Finding, Pick, Show, last_of
from llm_backend.labeling.matching import vocabulary
from llm_backend.labeling.source import Source
from llm_backend.labeling.tag import Tag
from llm_backend.values import Json

_SIDES = ("left", "right")


@dataclass(frozen=True)
class Pairwise(Control):
    """Which of two objects is chosen. `left` and `right` are what they show of the task at hand."""

    sides: tuple[Source, Source]
    left: str = ""
    right: str = ""

    kind: ClassVar[str] = "pairwise"

    @property
    def sources(self) -> tuple[Source, ...]:
        return self.sides

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        sides = [tag.objects[name] for name in tag.to_names if name in tag.objects]
        if len(tag.to_names) != 2 or len(sides) != 2:
            raise LabelingConfigError("its toName must name two objects")
        return cls(tag.name, (sides[0], sides[1]), header=tag.header)

    def for_task(self, data: Mapping[str, Any], show: Show) -> Self:
        left, right = map(show, self.sides)
        return replace(self, left=left, right=right)

    @property
    def wanted(self) -> str:
        return '"left" or "right", whichever of these two is to be chosen.\n  left: {left}\n  right: {right}'

    def fields(self) -> dict[str, str]:
        return {"left": self.left, "right": self.right}

    def schema(self, *, enumerated: bool) -> Json:
        return {"type": "string", "enum": list(_SIDES)}

    def read(self, raw: Any, text: str) -> list[Finding]:
        number = vocabulary(_SIDES).exact(raw) if isinstance(raw, str) else None
        return [] if number is None else [Finding(_SIDES[number])]

    def match(self, reply: str, text: str) -> list[Finding]:
        numbers = vocabulary(_SIDES).match(reply, multiple=False, name=self.name)
        return [Finding(_SIDES[number]) for number in numbers]

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in picks:
            yield {"selected": pick}, [pick]

    def from_values(self, values: Iterable[Json]) -> str | None:
        side = last_of(values, "selected", str)
        return side if side in _SIDES else None
