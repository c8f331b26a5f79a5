"""Controls whose values are labels of a flat list, in the labeling config or in the task."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from llm_backend.errors import LabelingConfigError
from llm_backend.labeling.controls.base import Control, Show
from llm_backend.labeling.matching import Vocabulary, vocabulary
from llm_backend.labeling.tag import Tag, named
from llm_backend.labeling.task_data import value_at


@dataclass(frozen=True, slots=True)
class Label:
    """One `<Choice>` or `<Label>`: the model is shown `value`; Label Studio stores `stored` (its alias)."""

    value: str
    stored: str
    hint: str = ""


@dataclass(frozen=True)
class Labelled(Control):
    """A control with labels. `labels_from` is the task's field that brings them, or empty."""

    labels: tuple[Label, ...]
    labels_from: str = ""

    parts: ClassVar[tuple[type, ...]] = (Label,)
    # The tag of one label.
    child: ClassVar[str]

    def for_task(self, data: Mapping[str, Any], show: Show) -> Self:
        if not self.labels_from:
            return self
        items = task_items(value_at(self.labels_from, data))
        return replace(self, labels=tuple(label for label, _ in items))

    def options(self) -> tuple[str, ...]:
        return self._options

    def label_of(self, written: str) -> Label | None:
        """The label that the text is, as it is shown or, failing that, as it is stored."""
        number = self.vocabulary.exact(written)
        return self._by_stored.get(written) if number is None else self.labels[number]

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """The labels made ready to be looked for, numbered as in `labels`."""
        return vocabulary(tuple(label.value for label in self.labels))

    def fields(self) -> dict[str, str]:
        lines = (f"  {label.value}{f' ({label.hint})' if label.hint else ''}" for label in self.labels)
        return {"labels": "\n".join(lines)}

    @functools.cached_property
    def _options(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(label.value for label in self.labels))

    @functools.cached_property
    def _by_stored(self) -> dict[str, Label]:
        return {label.stored: label for label in reversed(self.labels)}


def config_labels(tag: Tag, child: str) -> tuple[Label, ...]:
    """The labels in the config. Where there are none they come from the task.

    Label Studio's page does not draw choices within choices, so that nobody can tick them.

    Raises:
        LabelingConfigError: there are labels neither here nor there.
    """
    labels: dict[str, Label] = {}
    for found in tag.element.iterdescendants("*"):
        value, alias = found.get("value"), found.get("alias")
        if not named(found, child) or any(named(parent, child) for parent in found.iterancestors()):
            continue
        stored = alias or value
        if stored:
            labels.setdefault(stored, Label(value or stored, stored, found.get("hint") or ""))
    if not labels and not tag.field:
        raise LabelingConfigError("it has no labels")
    return tuple(labels.values())


def task_items(items: Any) -> Iterator[tuple[Label, Any]]:
    """The labels of a list in a task, each with its `children`.

    They are strings, or objects with `value`, `alias`, `hint` and `children`.
    """
    for item in items if isinstance(items, list) else ():
        described = item if isinstance(item, dict) else {"value": item}
        value = described.get("value")
        if isinstance(value, (str, int, float)):
            stored = str(described.get("alias") or value)
            yield Label(str(value), stored, str(described.get("hint") or "")), described.get("children")
