"""Labeling config → which control is the prompt, which object is read, which controls are filled.

A plain function of the XML's text, cached by it. label-studio-sdk does the parsing.
"""

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from label_studio_sdk.label_interface.control_tags import ControlTag
from label_studio_sdk.label_interface.interface import LabelInterface
from label_studio_sdk.label_interface.object_tags import ObjectTag

from llm_backend.errors import LabelingConfigError
from llm_backend.labeling.controls import CONTROLS, Control
from llm_backend.labeling.source import ReadableTag, Source
from llm_backend.labeling.tag import Tag, named, to_names

_MAX_LENGTH = 2_000_000


@dataclass(frozen=True)
class LabelingConfig:
    """What a labeling config asks this backend to do.

    `source` is the object that the prompt points to. `response` is the name of the TextArea for the replies,
    or None when there is none. `controls` are all that are filled, texts first and pieces of text next, so
    that a model thinks before it labels. `left_alone` says of each control that cannot be filled why.
    """

    interface: LabelInterface
    prompt: str
    source: Source
    response: str | None
    controls: tuple[Control, ...]
    left_alone: tuple[str, ...] = ()


@functools.lru_cache(maxsize=256)
def parse_labeling_config(
    xml: str, prompt_prefix: str, fill: str, readable: tuple[ReadableTag, ...]
) -> LabelingConfig:
    """The parts of the labeling config that matter here. `readable` are the object tags that can be read.

    Filled are the first other TextArea and all Choices on the prompt's object, and what is marked with
    `llm="true"`; with `fill="all"` everything that can be. `llm="false"` takes a control out.

    Raises:
        LabelingConfigError: the XML cannot be parsed, or lacks a prompt TextArea, an object that can be read,
            or something to fill; the reason says what to add.
    """
    interface = _parse(xml)
    prompt = _prompt_tag(interface.controls or (), prompt_prefix)
    objects = {str(tag.name): _source(tag, readable) for tag in interface.objects or ()}
    source = _prompt_source(objects, prompt, readable)
    places = _places(interface)
    wanted = [
        tag
        for tag in interface.controls or ()
        if source.name in to_names(tag)
        and tag.name != prompt.name
        and str(tag.get_attr("llm", "")).lower() != "false"
    ]
    response = next((str(tag.name) for tag in wanted if _is(tag, "TextArea")), None)
    controls, left_alone = [], []
    for found in wanted:
        tag = Tag(found, *places[found.name], source, objects, is_response=found.name == response)
        try:
            control = _control(tag)
        except LabelingConfigError as error:
            left_alone.append(f"{found.tag} {tag.name}: {error.reason}")
            continue
        if tag.truth("llm") or fill == "all" or control.plain:
            controls.append(control)
    if not controls:
        raise LabelingConfigError(
            "The labeling config has nothing to fill: "
            f'add <TextArea name="response" toName="{source.name}"/> '
            f'or <Choices name="choices" toName="{source.name}">'
        )
    return LabelingConfig(
        interface=interface,
        prompt=str(prompt.name),
        source=source,
        response=response,
        controls=tuple(sorted(controls, key=lambda control: control.thinking_order)),
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


def _prompt_source(
    objects: Mapping[str, Source], prompt: ControlTag, readable: tuple[ReadableTag, ...]
) -> Source:
    """The first object that the prompt points to and that can be read."""
    pointed_to, names = to_names(prompt), [tag.name for tag in readable]
    for name in pointed_to:
        if name in objects and objects[name].tag in names:
            return objects[name]
    raise LabelingConfigError(
        f'The prompt\'s toName="{",".join(pointed_to)}" must be the name of a '
        f"{', '.join(names[:-1])} or {names[-1]} tag with a value"
    )


def _control(tag: Tag) -> Control:
    """The control that a tag is.

    Raises:
        LabelingConfigError: it cannot be filled; the reason says why.
    """
    if tag.truth("perRegion") or tag.truth("perItem"):
        raise LabelingConfigError("it belongs to single regions or items")
    kind = CONTROLS.get((tag.control.tag or "").lower())
    if kind is None:
        raise LabelingConfigError("this kind of control is not supported")
    return kind.from_tag(tag)


def _source(tag: ObjectTag, readable: tuple[ReadableTag, ...]) -> Source:
    known = next((known for known in readable if _is(tag, known.name)), ReadableTag(tag.tag or ""))
    written = {
        "value_type": str(tag.get_attr("valueType", "")).lower(),
        "name_key": str(tag.get_attr("nameKey", "author")),
        "text_key": str(tag.get_attr("textKey", "text")),
    }
    counted = {name: value for name, value in written.items() if name in known.attributes}
    return Source(str(tag.name), known.name, tag.value or "", **counted)


def _places(interface: LabelInterface) -> dict[str, tuple[Any, str]]:
    """The XML element of each name, with the text of the Header before it, no other control between."""
    places: dict[str, tuple[Any, str]] = {}
    header = ""
    for element in interface._tree.iter("*"):
        if element.get("name"):
            places.setdefault(element.get("name"), (element, header))
        if named(element, "header"):
            header = element.get("value") or ""
        elif element.get("toName"):
            header = ""
    return places


def _is(tag: ControlTag | ObjectTag, name: str) -> bool:
    return (tag.tag or "").lower() == name.lower()
