"""`<Choices>`: labels, of which one or several are ticked."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from llm_backend.errors import LabelingConfigError
from llm_backend.labeling.controls.base import Finding, Pick, items_of, string_schema, strings_in, unique
from llm_backend.labeling.controls.labelled import Label, Labelled, config_labels
from llm_backend.labeling.tag import Tag
from llm_backend.values import Json


@dataclass(frozen=True)
class Choices(Labelled):
    """Labels, of which one is ticked, or with `multiple` any number."""

    multiple: bool = False

    kind: ClassVar[str] = "choices"
    child: ClassVar[str] = "choice"
    empty: ClassVar[Json | None] = {"choices": []}

    @property
    def several(self) -> bool:
        return self.multiple

    @property
    def plain(self) -> bool:
        return True

    @property
    def listed_labels(self) -> tuple[str, ...]:
        return self.options()

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        if tag.truth("allowNested"):
            # The page ticks them by paths; the check that Label Studio makes of a prediction refuses paths.
            raise LabelingConfigError(
                "Label Studio refuses predictions for Choices with allowNested: use Taxonomy"
            )
        labels = config_labels(tag, cls.child)
        multiple = tag.text("choice") == "multiple"
        return cls(tag.name, labels, "" if labels else tag.field, multiple=multiple, header=tag.header)

    @property
    def wanted(self) -> str:
        which = "all labels that fit" if self.multiple else "the one label that fits"
        return which + ", out of this list:\n{labels}"

    def schema(self, *, enumerated: bool) -> Json:
        label = string_schema(self.options(), enumerated=enumerated)
        return {"type": "array", "items": label} if self.multiple else label

    def read(self, raw: Any, text: str) -> list[Finding]:
        findings = [
            Finding(label.stored, path) for path, item in items_of(raw) for label in self._labels_in(item)
        ]
        return unique(findings, several=self.multiple)

    def match(self, reply: str, text: str) -> list[Finding]:
        numbers = self.vocabulary.match(reply, multiple=self.multiple, name=self.name)
        return unique([Finding(self.labels[number].stored) for number in numbers], several=self.multiple)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        picked = set(picks)
        ticked = [label.stored for label in self.labels if label.stored in picked]
        if ticked:
            yield {"choices": list(dict.fromkeys(ticked))}, picks

    def from_values(self, values: Iterable[Json]) -> list[str]:
        """The stored labels, each once, sorted."""
        return sorted(set(strings_in(values, "choices")))

    def _labels_in(self, item: Any) -> list[Label]:
        if not isinstance(item, (str, int, float)) or isinstance(item, bool):
            return []
        label = self.label_of(str(item))
        if label:
            return [label]
        return [self.labels[number] for number in self.vocabulary.match(str(item), multiple=self.multiple)]
