"""`<Rating>`: stars."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from llm_backend.errors import LabelingConfigError
from llm_backend.labeling.controls.base import MAX_ENUMERATED_NUMBERS, Control, Finding, Pick, last_of
from llm_backend.labeling.controls.free_text import answer_in, as_number, only_number, shortest
from llm_backend.labeling.tag import Tag
from llm_backend.values import Json


@dataclass(frozen=True)
class Rating(Control):
    """Stars, from one to `max_rating`."""

    max_rating: int

    kind: ClassVar[str] = "rating"
    empty: ClassVar[Json | None] = {"rating": 0}

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        max_rating = int(tag.number("maxRating") or 5)
        if max_rating < 1:
            raise LabelingConfigError("its maxRating must be 1 or more")
        return cls(tag.name, max_rating, header=tag.header)

    @property
    def wanted(self) -> str:
        return "a rating from 1 to {max}, as a whole number"

    def fields(self) -> dict[str, str]:
        return {"max": str(self.max_rating)}

    def schema(self, *, enumerated: bool) -> Json:
        if self.max_rating > MAX_ENUMERATED_NUMBERS:
            return {"type": "integer"}
        return {"type": "integer", "enum": list(range(1, self.max_rating + 1))}

    def read(self, raw: Any, text: str) -> list[Finding]:
        number = as_number(raw)
        if number is None or number != int(number) or not 1 <= number <= self.max_rating:
            return []
        return [Finding(int(number))]

    def match(self, reply: str, text: str) -> list[Finding]:
        answer = answer_in(reply, self.name)
        answer = re.sub(rf"(?i)(\d)\s*(?:/|out of)\s*{self.max_rating}\b", r"\1", answer)
        stars = answer.count("⭐") or answer.count("★")
        return self.read(str(stars) if stars else only_number(answer), text)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in picks:
            yield {"rating": pick}, [pick]

    def from_values(self, values: Iterable[Json]) -> float | None:
        """The stars; none are None."""
        number = as_number(last_of(values, "rating", (int, float)))
        return shortest(number) if number else None
