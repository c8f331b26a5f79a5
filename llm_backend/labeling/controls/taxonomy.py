"""`<Taxonomy>`: paths of a tree, of which any number are ticked."""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from llm_backend.errors import LabelingConfigError
from llm_backend.labeling.controls.base import Control, Finding, Pick, Show, items_of, string_schema, unique
from llm_backend.labeling.controls.labelled import task_items
from llm_backend.labeling.matching import Vocabulary, vocabulary
from llm_backend.labeling.tag import Tag, named
from llm_backend.labeling.task_data import value_at
from llm_backend.values import Json

_SEPARATOR = " > "


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
    parts: ClassVar[tuple[type, ...]] = (Node,)
    empty: ClassVar[Json | None] = {"taxonomy": []}

    @property
    def several(self) -> bool:
        return True

    @classmethod
    def from_tag(cls, tag: Tag) -> Self:
        if tag.text("apiUrl"):
            raise LabelingConfigError("its labels come from apiUrl")
        if tag.truth("labeling"):
            raise LabelingConfigError("it labels regions")
        nodes = tuple(_config_nodes(tag.element))
        if not nodes and not tag.field:
            raise LabelingConfigError("it has no labels")
        leafs_only = tag.truth("leafsOnly")
        return cls(tag.name, nodes, leafs_only, "" if nodes else tag.field, header=tag.header)

    def for_task(self, data: Mapping[str, Any], show: Show) -> Self:
        if not self.labels_from:
            return self
        return replace(self, nodes=tuple(_task_nodes(value_at(self.labels_from, data))))

    @property
    def wanted(self) -> str:
        ending = " down to an entry that has none below it" if self.leafs_only else ""
        return (
            f"all that fit out of this tree, each as its whole path{ending}, "
            f'joined with "{_SEPARATOR}":\n{{labels}}'
        )

    def fields(self) -> dict[str, str]:
        return {"labels": self._tree}

    def options(self) -> tuple[str, ...]:
        return tuple(self._by_path)

    def schema(self, *, enumerated: bool) -> Json:
        return {"type": "array", "items": string_schema(self.options(), enumerated=enumerated)}

    def read(self, raw: Any, text: str) -> list[Finding]:
        if isinstance(raw, list) and raw and all(isinstance(item, str) for item in raw):
            whole = self._node(_SEPARATOR.join(raw))
            if len(raw) > 1 and whole:  # one path, written as Label Studio writes it
                return [Finding(whole.stored)]
        findings = []
        for path, item in items_of(raw):
            written = _SEPARATOR.join(map(str, item)) if isinstance(item, list) else item
            node = self._node(written) if isinstance(written, str) else None
            if node:
                findings.append(Finding(node.stored, path))
        return unique(findings, several=True)

    def match(self, reply: str, text: str) -> list[Finding]:
        paths, shown = self._matchers
        numbers = paths.match(reply, multiple=True, name=self.name)
        nodes = [self._selectable[number] for number in numbers]
        if not nodes:
            names = tuple(self._by_name)
            nodes = [self._by_name[names[n]] for n in shown.match(reply, multiple=True, name=self.name)]
        return unique([Finding(node.stored) for node in nodes], several=True)

    def region_values(self, picks: Sequence[Pick], text: str) -> Iterator[tuple[Json, Sequence[Pick]]]:
        if picks:
            yield {"taxonomy": [list(pick) for pick in picks if isinstance(pick, tuple)]}, picks

    def from_values(self, values: Iterable[Json]) -> list[list[str]]:
        """The stored paths, each once, sorted."""
        lists = [value.get("taxonomy") for value in values]
        paths = [path for found in lists if isinstance(found, list) for path in found if path]
        whole = {
            tuple(path) for path in paths if isinstance(path, list) and all(isinstance(s, str) for s in path)
        }
        return sorted(map(list, whole))

    def _node(self, written: str) -> Node | None:
        """The node that is meant: by its whole path, or by its own name where only one has it."""
        folded = _folded(re.sub(r"\s*(?:>|/|::|→|»)\s*", _SEPARATOR, written))
        return self._by_folded_path.get(folded) or self._by_name.get(_folded(written))

    @functools.cached_property
    def _selectable(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.is_leaf or not self.leafs_only)

    @functools.cached_property
    def _by_path(self) -> dict[str, Node]:
        return {_SEPARATOR.join(node.shown): node for node in self._selectable}

    @functools.cached_property
    def _by_folded_path(self) -> dict[str, Node]:
        by_path: dict[str, Node] = {}
        for node in self._selectable:
            by_path.setdefault(_folded(re.sub(r"\s*/\s*", _SEPARATOR, _SEPARATOR.join(node.shown))), node)
            by_path.setdefault(_folded(_SEPARATOR.join(node.stored)), node)
        return by_path

    @functools.cached_property
    def _by_name(self) -> dict[str, Node]:
        """Nodes by their own name, without those whose name stands at several places of the tree."""
        by_name: dict[str, list[Node]] = {}
        for node in self.nodes:
            by_name.setdefault(_folded(node.shown[-1]), []).append(node)
        selectable = set(self._selectable)
        return {
            name: nodes[0] for name, nodes in by_name.items() if len(nodes) == 1 and nodes[0] in selectable
        }

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


def _config_nodes(element: Any, shown: tuple[str, ...] = (), stored: tuple[str, ...] = ()) -> Iterator[Node]:
    """The choices below an element, each before those below it; of twins the first counts, as on the page."""
    seen = set()
    for child in element:
        value = child.get("value") if named(child, "choice") else None
        if value and value not in seen:
            seen.add(value)
            below = (*shown, value), (*stored, child.get("alias") or value)
            deeper = tuple(_config_nodes(child, *below))
            yield Node(*below, is_leaf=not deeper, hint=child.get("hint") or "")
            yield from deeper


def _task_nodes(items: Any, shown: tuple[str, ...] = (), stored: tuple[str, ...] = ()) -> Iterator[Node]:
    """The nodes of a tree that a task brings, each before those below it."""
    for label, children in task_items(items):
        below = (*shown, label.value), (*stored, label.stored)
        yield Node(*below, is_leaf=not children, hint=label.hint)
        yield from _task_nodes(children, *below)


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
