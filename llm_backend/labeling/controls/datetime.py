"""`<DateTime>`: a date, a time, or both."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from llm_backend.labeling.controls.base import NULL, Control, Finding, Pick, last_of
from llm_backend.labeling.controls.free_text import answer_in
from llm_backend.labeling.tag import Tag
from llm_backend.values import Json


@dataclass(frozen=True)
class DateTime(Control):
    """A date, a time, or both, in the format that Label Studio's page reads it back in."""

    only: tuple[str, ...] = ()
    format: str = ""
    minimum: str = ""
    maximum: str = ""

    kind: ClassVar[str] = "datetime"

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        only = tuple(part.strip() for part in tag.text("only").split(",") if part.strip())
        return cls(tag.name, only, *map(tag.text, ("format", "min", "max")), header=tag.header)

    @property
    def wanted(self) -> str:
        if self._is_time:
            like = "a time of day like 14:30"
        else:
            like = "a date like 2026-01-31" if self._is_date else "a date and time like 2026-01-31T14:30"
        return f"{like}, or null when there is none"

    def schema(self, *, enumerated: bool) -> Json:
        return {"anyOf": [{"type": "string"}, NULL]}

    def read(self, raw: Any, text: str) -> list[Finding]:
        if not isinstance(raw, (str, int)) or isinstance(raw, bool):
            return []
        moment = self._parsed(str(raw).strip())
        if moment is None:
            return []
        if self._is_time:
            return [Finding(f"{moment:%H:%M}")]
        compared = f"{moment:%Y}" if "year" in self.only else f"{moment:%Y-%m-%d}"
        if (self.minimum and compared < self.minimum) or (self.maximum and compared > self.maximum):
            return []
        default = "%Y-%m-%d" if self._is_date else "%Y-%m-%dT%H:%M"
        # Python leaves out the zeros of early years, where d3 and the page's own check want four digits.
        pattern = (self.format or default).replace("%Y", f"{moment.year:04d}")
        return [Finding(moment.strftime(pattern))]

    def match(self, reply: str, text: str) -> list[Finding]:
        answer = answer_in(reply, self.name)
        pattern = r"\b\d{1,2}:\d{2}\b" if self._is_time else r"\b\d{4}-\d{2}(?:-\d{2}(?:[T ]\d{2}:\d{2})?)?\b"
        found = set(re.findall(pattern, answer))
        return self.read(found.pop(), text) if len(found) == 1 else []

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        for pick in picks:
            yield {"datetime": pick}, [pick]

    def from_values(self, values: Iterable[Json]) -> str | None:
        found: str | None = last_of(values, "datetime", str)
        return found

    def agrees(self, one: Any, other: Any) -> bool:
        """Two ways to write one moment are the same."""
        if one == other:
            return True
        moments = [self._parsed(written) if written else None for written in (one, other)]
        return moments[0] is not None and moments[0] == moments[1]

    @property
    def _is_time(self) -> bool:
        return self.only == ("time",)

    @property
    def _is_date(self) -> bool:
        return bool(self.only) and "time" not in self.only

    def _parsed(self, written: str) -> datetime | None:
        own = (self.format,) if self.format else ()
        for pattern in (*own, "%Y-%m-%d", "%H:%M", "%H:%M:%S", "%Y-%m", "%Y"):
            try:
                moment = datetime.strptime(written, pattern)  # noqa: DTZ007 - the page's times have no zone
            except (ValueError, re.error):  # a format that names a part twice is a pattern that cannot be
                continue
            is_time = pattern.startswith("%H")
            return moment if is_time == self._is_time or pattern in own else None
        try:
            return datetime.fromisoformat(written).replace(tzinfo=None)
        except ValueError:
            return None
