"""A control tag as a labeling config has it: what a control is made from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from label_studio_sdk.label_interface.control_tags import ControlTag

from llm_backend.labeling.source import Source


@dataclass(frozen=True, slots=True)
class Tag:
    """A control tag and what stands around it.

    `element` is its XML, `header` the text of the `<Header>` before it. `source` is the object that the
    prompt points to, `objects` are all, by name. `is_response` marks the TextArea for the replies.
    """

    control: ControlTag
    element: Any
    header: str
    source: Source
    objects: Mapping[str, Source]
    is_response: bool

    @property
    def name(self) -> str:
        """The name that the regions of the control carry."""
        return str(self.control.name)

    @property
    def to_names(self) -> list[str]:
        """The names of the objects that the control is for."""
        return to_names(self.control)

    @property
    def field(self) -> str:
        """The task's field that the control's labels come from; empty where they stand in the config."""
        value = self.text("value")
        return value[1:] if value.startswith("$") else ""

    def text(self, attribute: str) -> str:
        """The attribute; empty where it is missing or blank."""
        return str(self.control.get_attr(attribute, ""))

    def truth(self, attribute: str) -> bool:
        """Whether the attribute is `true`."""
        return self.text(attribute).lower() == "true"

    def number(self, attribute: str) -> float | None:
        """The attribute as a finite number; None where it is none."""
        try:
            number = float(self.text(attribute))
        except ValueError:
            return None
        return number if math.isfinite(number) else None


def named(element: Any, name: str) -> bool:
    """Whether an XML element has this name, in any case; a comment has none."""
    return isinstance(element.tag, str) and element.tag.lower() == name


def to_names(control: ControlTag) -> list[str]:
    """The names in `toName`, which holds one or several with commas."""
    return [name.strip() for name in control.to_name or ()]
