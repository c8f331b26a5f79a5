"""`<TextArea>`: a text that the model writes."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from llm_backend.labeling.controls.base import Control, Finding, Form, Pick, strings_in
from llm_backend.labeling.controls.free_text import own_line
from llm_backend.labeling.tag import Tag
from llm_backend.values import Json


@dataclass(frozen=True)
class TextArea(Control):
    """A text that the model writes. The response takes a whole reply where the reply is not JSON."""

    is_response: bool = False

    kind: ClassVar[str] = "textarea"
    closed: ClassVar[bool] = False

    @property
    def plain(self) -> bool:
        return self.is_response

    @property
    def thinking_order(self) -> int:
        return 0 if self.is_response else 1

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        return cls(tag.name, is_response=tag.is_response, header=tag.header)

    def wording(self, form: Form) -> str:
        if self.is_response and form == "lines":
            return "First your answer to what the user asks, as plain text{header}"
        return super().wording(form)

    @property
    def wanted(self) -> str:
        return "your answer to what the user asks, as plain text" if self.is_response else "a text"

    def schema(self, *, enumerated: bool) -> Json:
        return {"type": "string"}

    def read(self, raw: Any, text: str) -> list[Finding]:
        said = self._text_of(raw)
        return [Finding(said)] if said else []

    def match(self, reply: str, text: str) -> list[Finding]:
        said = own_line(reply, self.name)
        return [Finding(said)] if said else []

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        if picks:
            yield {"text": list(picks)}, picks

    def from_values(self, values: Iterable[Json]) -> list[str]:
        return [text for text in strings_in(values, "text") if text.strip()]

    def agrees(self, one: Any, other: Any) -> bool:
        """Spaces and line breaks do not matter."""
        return [text.split() for text in one] == [text.split() for text in other]

    def _text_of(self, raw: Any) -> str:
        if isinstance(raw, list):
            return "\n".join(filter(None, map(self._text_of, raw)))
        return str(raw).strip() if isinstance(raw, (str, int, float)) else ""
