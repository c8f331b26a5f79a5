"""Labeling config → which control is the prompt, which object is read, which controls are filled.

A plain function of the XML's text, cached by it. label-studio-sdk does the parsing.
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from label_studio_sdk.label_interface.control_tags import ControlTag
from label_studio_sdk.label_interface.interface import LabelInterface
from label_studio_sdk.label_interface.object_tags import ObjectTag

from llm_backend.errors import LabelingConfigError

KNOWN_OBJECT_TAGS = ("Text", "HyperText", "Paragraphs", "Image")
_MAX_LENGTH = 2_000_000


@dataclass(frozen=True, slots=True)
class Label:
    """One `<Choice>`: the model is shown `value`; Label Studio stores `stored` (its alias, if any)."""

    value: str
    stored: str


@dataclass(frozen=True, slots=True)
class Choices:
    """A `<Choices>` tag that is filled from the reply."""

    name: str
    labels: tuple[Label, ...]
    multiple: bool


@dataclass(frozen=True, slots=True)
class LabelingConfig:
    """What a labeling config asks this backend to do.

    `object_value` is the object tag's `value`, such as `$text`; `response` is the name of the TextArea
    for the replies, or None when only choices are to be filled.
    """

    interface: LabelInterface
    prompt: str
    object_name: str
    object_tag: str
    object_value: str
    value_type: str
    name_key: str
    text_key: str
    response: str | None
    choices: tuple[Choices, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that can be ticked, as the model is shown them, each once, in order."""
        return tuple(dict.fromkeys(label.value for choices in self.choices for label in choices.labels))


@functools.lru_cache(maxsize=256)
def parse_labeling_config(xml: str, prompt_prefix: str) -> LabelingConfig:
    """The parts of the labeling config that matter here.

    Raises:
        LabelingConfigError: the XML cannot be parsed, or lacks a prompt TextArea, a known object tag, or
            something to fill; the reason says what to add.
    """
    interface = _parse(xml)
    prompt = _prompt_tag(interface.controls or (), prompt_prefix)
    target = _object_tag(interface, prompt)
    others = [
        control
        for control in interface.controls or ()
        if target.name in (control.to_name or ()) and control.name != prompt.name
    ]
    response = next((control.name for control in others if _is(control, "TextArea")), None)
    choices = tuple(_choices(control) for control in others if _is(control, "Choices") and control.labels)
    if response is None and not choices:
        raise LabelingConfigError(
            "The labeling config has nothing to fill: "
            f'add <TextArea name="response" toName="{target.name}"/> '
            f'or <Choices name="choices" toName="{target.name}">'
        )
    return LabelingConfig(
        interface=interface,
        prompt=str(prompt.name),
        object_name=str(target.name),
        object_tag=_known_name(target),
        object_value=target.value or "",
        value_type=str(target.get_attr("valueType", "")).lower(),
        name_key=str(target.get_attr("nameKey", "author")),
        text_key=str(target.get_attr("textKey", "text")),
        response=response,
        choices=choices,
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


def _object_tag(interface: LabelInterface, prompt: ControlTag) -> ObjectTag:
    """The first tag that the prompt points to and that can be read."""
    objects: dict[str, ObjectTag] = {str(tag.name): tag for tag in interface.objects or ()}
    pointed_to = [name.strip() for name in prompt.to_name or ()]
    for name in pointed_to:
        if name in objects and any(_is(objects[name], known) for known in KNOWN_OBJECT_TAGS):
            return objects[name]
    raise LabelingConfigError(
        f'The prompt\'s toName="{",".join(pointed_to)}" must be the name of a '
        f"{', '.join(KNOWN_OBJECT_TAGS[:-1])} or {KNOWN_OBJECT_TAGS[-1]} tag with a value"
    )


def _choices(control: ControlTag) -> Choices:
    attributes = {stored: tag.attr or {} for stored, tag in (control.labels_attrs or {}).items()}
    return Choices(
        name=str(control.name),
        labels=tuple(
            Label(value=attributes.get(stored, {}).get("value") or stored, stored=stored)
            for stored in control.labels or ()
        ),
        multiple=control.get_attr("choice") == "multiple",
    )


def _is(tag: ControlTag | ObjectTag, name: str) -> bool:
    return (tag.tag or "").lower() == name.lower()


def _known_name(tag: ObjectTag) -> str:
    return next(known for known in KNOWN_OBJECT_TAGS if _is(tag, known))
