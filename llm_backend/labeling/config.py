"""Labeling config → which control is the prompt, which object is read, which controls are filled.

A plain function of the XML's text, cached by it. label-studio-sdk does the parsing.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from label_studio_sdk.label_interface.control_tags import ControlTag
from label_studio_sdk.label_interface.interface import LabelInterface
from label_studio_sdk.label_interface.object_tags import ObjectTag
from lxml import etree

from llm_backend.errors import LabelingConfigError
from llm_backend.labeling.controls import (
    Choices,
    Control,
    DateTime,
    Label,
    Labels,
    Node,
    Number,
    Pairwise,
    Rating,
    Taxonomy,
    TextArea,
)
from llm_backend.labeling.source import Source

_MAX_LENGTH = 2_000_000


@dataclass(frozen=True)
class LabelingConfig:
    """What a labeling config asks this backend to do.

    `source` is the object that the prompt points to; `response` is the name of the TextArea
    for the replies, or None when there is none; `controls` are all that are filled, texts first and pieces of
    text next, so that a model thinks before it labels; `left_alone` says of each control that cannot be
    filled why.
    """

    interface: LabelInterface
    prompt: str
    source: Source
    response: str | None
    controls: tuple[Control, ...]
    left_alone: tuple[str, ...] = ()

    @property
    def choices(self) -> tuple[Choices, ...]:
        """The Choices among the controls."""
        return tuple(control for control in self.controls if isinstance(control, Choices))

    @functools.cached_property
    def labels(self) -> tuple[str, ...]:
        """All labels that can be ticked, as the model is shown them, each once, in order."""
        return tuple(dict.fromkeys(label.value for choices in self.choices for label in choices.labels))

    @functools.cached_property
    def digest(self) -> str:
        """Hex digest of all in the config that shapes an answer."""
        controls = [[control.kind, asdict(control)] for control in self.controls]
        shapes = [asdict(self.source), self.prompt, self.response, controls]
        return hashlib.sha256(json.dumps(shapes).encode()).hexdigest()


@functools.lru_cache(maxsize=256)
def parse_labeling_config(
    xml: str, prompt_prefix: str, fill: str, readable: tuple[str, ...]
) -> LabelingConfig:
    """The parts of the labeling config that matter here.

    Filled are the first other TextArea and all Choices on the prompt's object, and what is marked with
    `llm="true"`; with `fill="all"` everything that can be. `llm="false"` takes a control out. `readable` are
    the names of the object tags that can be read, as Label Studio spells them.

    Raises:
        LabelingConfigError: the XML cannot be parsed, or lacks a prompt TextArea, a readable object tag, or
            something to fill; the reason says what to add.
    """
    interface = _parse(xml)
    prompt = _prompt_tag(interface.controls or (), prompt_prefix)
    target = _object_tag(interface, prompt, readable)
    others = [
        control
        for control in interface.controls or ()
        if target.name in _to_names(control) and control.name != prompt.name
    ]
    wanted = [tag for tag in others if str(tag.get_attr("llm", "")).lower() != "false"]
    response = next((str(tag.name) for tag in wanted if _is(tag, "TextArea")), None)
    controls, left_alone = [], []
    for tag in wanted:
        asked_for = (
            str(tag.get_attr("llm", "")).lower() == "true"
            or fill == "all"
            or tag.name == response
            or _is(tag, "Choices")
        )
        try:
            control = _control(tag, interface, target, response, readable)
        except LabelingConfigError as error:
            left_alone.append(f"{tag.tag} {tag.name}: {error.reason}")
            continue
        if asked_for:
            controls.append(control)
    if not controls:
        raise LabelingConfigError(
            "The labeling config has nothing to fill: "
            f'add <TextArea name="response" toName="{target.name}"/> '
            f'or <Choices name="choices" toName="{target.name}">'
        )
    return LabelingConfig(
        interface=interface,
        prompt=str(prompt.name),
        source=_source(target, readable),
        response=response,
        controls=tuple(sorted(controls, key=_thinking_order)),
        left_alone=tuple(left_alone),
    )


def _parse(xml: str) -> LabelInterface:
    if len(xml) > _MAX_LENGTH:
        raise LabelingConfigError(f"The labeling config is longer than {_MAX_LENGTH} characters")
    without_comments = re.sub(r"<!--.*?-->", "", xml, flags=re.DOTALL)
    if "<!DOCTYPE" in without_comments or "<!ENTITY" in without_comments:
        raise LabelingConfigError("The labeling config must not hold a DOCTYPE or entities")
    try:
        return LabelInterface(xml)
    except Exception as error:  # the SDK raises whatever its parsers do, for any broken config
        cause = str(error).partition("\n")[0]
        raise LabelingConfigError(f"The labeling config cannot be parsed: {cause}") from error


def _prompt_tag(controls: Iterable[ControlTag], prefix: str) -> ControlTag:
    """The TextArea named `prefix`, else the first whose name starts with it."""
    candidates = [
        control for control in controls if _is(control, "TextArea") and str(control.name).startswith(prefix)
    ]
    if not candidates:
        raise LabelingConfigError(
            f'The labeling config has no prompt: add <TextArea name="{prefix}" toName="..."/>, '
            "or set PROMPT_PREFIX to the start of its name"
        )
    return next((control for control in candidates if control.name == prefix), candidates[0])


def _object_tag(interface: LabelInterface, prompt: ControlTag, readable: tuple[str, ...]) -> ObjectTag:
    """The first tag that the prompt points to and that can be read."""
    objects: dict[str, ObjectTag] = {str(tag.name): tag for tag in interface.objects or ()}
    pointed_to = _to_names(prompt)
    for name in pointed_to:
        if name in objects and any(_is(objects[name], known) for known in readable):
            return objects[name]
    raise LabelingConfigError(
        f'The prompt\'s toName="{",".join(pointed_to)}" must be the name of a '
        f"{', '.join(readable[:-1])} or {readable[-1]} tag with a value"
    )


def _thinking_order(control: Control) -> int:
    """The response, other texts, quotes, and then whatever is a judgement."""
    if isinstance(control, TextArea):
        return 0 if control.is_response else 1
    return 2 if isinstance(control, Labels) else 3


def _control(  # noqa: C901 - one branch for each kind of control
    tag: ControlTag,
    interface: LabelInterface,
    target: ObjectTag,
    response: str | None,
    readable: tuple[str, ...],
) -> Control:
    """The control that a tag is.

    Raises:
        LabelingConfigError: it cannot be filled; the reason says why.
    """
    name, kind = str(tag.name), (tag.tag or "").lower()
    element = next(found for found in _elements(interface) if found.get("name") == name)
    header = _header(element)
    if _truth(tag, "perRegion") or _truth(tag, "perItem"):
        raise LabelingConfigError("it belongs to single regions or items")
    if kind == "textarea":
        return TextArea(name, is_response=name == response, header=header)
    if kind == "choices":
        return _choices(tag, element, header)
    if kind == "taxonomy":
        return _taxonomy(tag, element, header)
    if kind == "rating":
        return Rating(name, int(_float(tag, "maxRating") or 5), header=header)
    if kind == "number":
        bounds = (_float(tag, "min"), _float(tag, "max"), _float(tag, "step"))
        return Number(name, *bounds, header=header)
    if kind == "datetime":
        only = tuple(part.strip() for part in str(tag.get_attr("only", "")).split(",") if part.strip())
        attributes = (str(tag.get_attr(attribute, "")) for attribute in ("format", "min", "max"))
        return DateTime(name, only, *attributes, header=header)
    if kind == "pairwise":
        return Pairwise(name, _sides(tag, interface, readable), header=header)
    if kind == "labels":
        if not _is(target, "Text"):
            raise LabelingConfigError("Labels are filled on a Text only")
        labels = _labels(tag, element, "label")
        return Labels(name, labels, "" if labels else _field_of(tag), header=header)
    raise LabelingConfigError("this kind of control is not supported")


def _choices(tag: ControlTag, element: Any, header: str) -> Choices:
    if _truth(tag, "allowNested"):
        # The page ticks them by paths; the check that Label Studio makes of a prediction refuses paths.
        raise LabelingConfigError(
            "Label Studio refuses predictions for Choices with allowNested: use Taxonomy"
        )
    labels = _labels(tag, element, "choice")
    return Choices(
        name=str(tag.name),
        labels=labels,
        multiple=tag.get_attr("choice") == "multiple",
        labels_from="" if labels else _field_of(tag),
        header=header,
    )


def _labels(tag: ControlTag, element: Any, child: str) -> tuple[Label, ...]:
    """The labels in the config. Where there are none they come from the task.

    Choices within choices are not drawn by Label Studio's page, and so cannot be ticked.
    """
    labels: dict[str, Label] = {}
    for found in _descendants(element, child):
        value, alias = found.get("value"), found.get("alias")
        within = any(str(parent.tag).lower() == child for parent in found.iterancestors())
        if (value or alias) and not within:
            stored = alias or value
            labels.setdefault(stored, Label(value or stored, stored, found.get("hint") or ""))
    if not labels and not _field_of(tag):
        raise LabelingConfigError("it has no labels")
    return tuple(labels.values())


def _taxonomy(tag: ControlTag, element: Any, header: str) -> Taxonomy:
    if tag.get_attr("apiUrl"):
        raise LabelingConfigError("its labels come from apiUrl")
    if _truth(tag, "labeling"):
        raise LabelingConfigError("it labels regions")
    nodes = tuple(_nodes(element, (), ()))
    if not nodes and not _field_of(tag):
        raise LabelingConfigError("it has no labels")
    leafs_only = _truth(tag, "leafsOnly")
    return Taxonomy(str(tag.name), nodes, leafs_only, "" if nodes else _field_of(tag), header=header)


def _nodes(element: Any, shown: tuple[str, ...], stored: tuple[str, ...]) -> Iterator[Node]:
    """The choices below an element, each before those below it; of twins the first counts, as on the page."""
    seen = set()
    for child in element:
        value = child.get("value") if _named(child, "choice") else None
        if value and value not in seen:
            seen.add(value)
            below = (*shown, value), (*stored, child.get("alias") or value)
            deeper = tuple(_nodes(child, *below))
            yield Node(*below, is_leaf=not deeper, hint=child.get("hint") or "")
            yield from deeper


def _sides(tag: ControlTag, interface: LabelInterface, readable: tuple[str, ...]) -> tuple[Source, Source]:
    objects = {str(found.name): found for found in interface.objects or ()}
    names = _to_names(tag)
    if len(names) != 2 or not all(name in objects for name in names):
        raise LabelingConfigError("its toName must name two objects")
    left, right = (_source(objects[name], readable) for name in names)
    return left, right


def _source(tag: ObjectTag, readable: tuple[str, ...]) -> Source:
    source = Source(
        name=str(tag.name),
        tag=next((known for known in readable if _is(tag, known)), tag.tag or ""),
        value=tag.value or "",
        value_type=str(tag.get_attr("valueType", "")).lower(),
    )
    if (
        source.tag != "Paragraphs"
    ):  # on other tags these attributes say nothing, and must not look like a change
        return source
    return replace(
        source,
        name_key=str(tag.get_attr("nameKey", source.name_key)),
        text_key=str(tag.get_attr("textKey", source.text_key)),
    )


def _header(element: Any) -> str:
    """The text of the Header that stands before a control, with no other control between."""
    for before in element.iterancestors("*"):
        if before.getparent() is None:
            root = before
            break
    else:
        return ""
    header = ""
    for found in root.iter("*"):
        if found is element:
            return header
        if _named(found, "header"):
            header = found.get("value") or ""
        elif found.get("toName"):
            header = ""
    return ""


def _elements(interface: LabelInterface) -> Iterator[Any]:
    return iter(interface._tree.iter(etree.Element))


def _descendants(element: Any, name: str) -> Iterator[Any]:
    return (found for found in element.iterdescendants(etree.Element) if _named(found, name))


def _named(element: Any, name: str) -> bool:
    return isinstance(element.tag, str) and element.tag.lower() == name


def _to_names(tag: ControlTag) -> list[str]:
    return [name.strip() for name in tag.to_name or ()]


def _field_of(tag: ControlTag) -> str:
    """The task's field that a control's labels come from."""
    value = str(tag.get_attr("value", "") or "")
    return value[1:] if value.startswith("$") else ""


def _truth(tag: ControlTag, attribute: str) -> bool:
    return str(tag.get_attr(attribute, "")).lower() == "true"


def _float(tag: ControlTag, attribute: str) -> float | None:
    try:
        return float(tag.get_attr(attribute))
    except (TypeError, ValueError):
        return None


def _is(tag: ControlTag | ObjectTag, name: str) -> bool:
    return (tag.tag or "").lower() == name.lower()
