"""An object tag of a labeling config: what a control points to and a model reads."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Source:
    """An object tag: its name, its tag, its `value`, and how Paragraphs and files are read.

    `value` is a template such as `$text`; `value_type` is `url` where the text is at an address in the task.
    """

    name: str
    tag: str
    value: str
    value_type: str = ""
    name_key: str = "author"
    text_key: str = "text"


@dataclass(frozen=True, slots=True)
class ReadableTag:
    """An object tag that can be read. `attributes` are the optional fields of `Source` that matter for it.

    The others keep their defaults: what cannot change an answer must not look like a change.
    """

    name: str
    attributes: frozenset[str] = frozenset()
