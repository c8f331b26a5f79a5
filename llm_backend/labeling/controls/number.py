"""`<Number>`: a number within bounds."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from llm_backend.labeling.controls.base import MAX_ENUMERATED_NUMBERS, NULL, Control, Finding, Pick, last_of
from llm_backend.labeling.controls.free_text import answer_in, as_number, only_number, shortest
from llm_backend.labeling.tag import Tag
from llm_backend.values import Json

# A number this close to a step is on it.
_TOLERANCE = 1e-8


@dataclass(frozen=True)
class Number(Control):
    """A number within bounds, on a step; Label Studio counts steps from the minimum, or from zero."""

    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None

    kind: ClassVar[str] = "number"

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        return cls(tag.name, tag.number("min"), tag.number("max"), tag.number("step"), header=tag.header)

    @property
    def wanted(self) -> str:
        return "a number{bounds}, or null when there is none"

    def fields(self) -> dict[str, str]:
        bounds = {"at least": self.minimum, "at most": self.maximum, "in steps of": self.step}
        said = (f", {name} {shortest(value)}" for name, value in bounds.items() if value is not None)
        return {"bounds": "".join(said)}

    def schema(self, *, enumerated: bool) -> Json:
        number: Json = {"type": "number"}
        if self.minimum is not None and self.maximum is not None and self.step:
            steps = (self.maximum - self.minimum) / self.step + _TOLERANCE
            if 0 <= steps < MAX_ENUMERATED_NUMBERS:
                values = [shortest(round(self.minimum + n * self.step, 9)) for n in range(int(steps) + 1)]
                number["enum"] = values
        return {"anyOf": [number, NULL]}

    def read(self, raw: Any, text: str) -> list[Finding]:
        number = as_number(raw)
        if number is None or not self._fits(number):
            return []
        return [Finding(shortest(number))]

    def match(self, reply: str, text: str) -> list[Finding]:
        return self.read(only_number(answer_in(reply, self.name)), text)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in picks:
            yield {"number": pick}, [pick]

    def from_values(self, values: Iterable[Json]) -> float | None:
        number = as_number(last_of(values, "number", (int, float)))
        return None if number is None else shortest(number)

    def agrees(self, one: Any, other: Any) -> bool:
        """What arithmetic rounds differently is the same number."""
        return bool(one == other) or (None not in (one, other) and math.isclose(one, other))

    def _fits(self, number: float) -> bool:
        if self.minimum is not None and number < self.minimum:
            return False
        if self.maximum is not None and number > self.maximum:
            return False
        if not self.step or self.step <= _TOLERANCE:
            return True
        steps = (number - (self.minimum or 0.0)) / self.step
        return abs(steps - round(steps)) * self.step <= _TOLERANCE
