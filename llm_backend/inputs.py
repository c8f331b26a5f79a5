"""Task data → what the LLM reads. A value is never opened because it looks like a file or an address."""

import json
import re
from collections.abc import Mapping
from typing import Any

import lxml.etree
import lxml.html
from inscriptis.css_profiles import STRICT_CSS_PROFILE
from inscriptis.html_engine import Inscriptis
from inscriptis.model.config import ParserConfig

from llm_backend.errors import InputError
from llm_backend.labeling_config import LabelingConfig
from llm_backend.values import Message, Role, TaskInput

_VARIABLE = re.compile(r"\$([\w.\[\]-]+)")
_CHAT_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}
_UNSEEN = ("script", "style", "template", "noscript", "head")


def read_input(config: LabelingConfig, data: Mapping[str, Any], *, dialogue_format: str) -> TaskInput:
    """What the object tag shows of this task.

    `dialogue_format` is `text` or `messages`: with the latter, Paragraphs whose names are all chat roles
    are also given as chat messages.

    Raises:
        InputError: the task lacks the field, or its value is not what the tag needs.
    """
    if config.object_tag == "Image":
        raise InputError("Reading an Image is not supported yet: use Text, HyperText or Paragraphs")
    if config.value_type == "url":
        raise InputError(
            f'Reading {config.object_tag} with valueType="url" is not supported yet: put the text in the task'
        )
    value = _value(config.object_value, data)
    if config.object_tag == "Paragraphs":
        turns = _turns(config, value)
        text = "\n".join(f"{name}: {said}" if name else said for name, said in turns)
        dialogue = _as_chat(turns) if dialogue_format == "messages" else ()
        return TaskInput(text=text, fields=data, dialogue=dialogue)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return TaskInput(text=visible_text(text) if config.object_tag == "HyperText" else text, fields=data)


def object_field(config: LabelingConfig) -> str:
    """The field of the task that the object tag reads as a whole; empty when there is no single one."""
    whole = _VARIABLE.fullmatch(config.object_value)
    return whole.group(1) if whole else ""


def visible_text(html: str) -> str:
    """What a person reads of a page: no tags, scripts, styles or hidden parts; one line per block."""
    if not html.strip():
        return ""
    try:
        tree = lxml.html.document_fromstring(html.encode("utf-8"), parser=_html_parser())
    except (lxml.etree.ParserError, ValueError):
        return ""
    for hidden in tree.xpath("//*[@hidden]"):
        hidden.tag = "template"
    lxml.etree.strip_elements(
        tree, *_UNSEEN, lxml.etree.Comment, lxml.etree.ProcessingInstruction, with_tail=False
    )
    try:
        text = Inscriptis(tree, ParserConfig(css=STRICT_CSS_PROFILE.copy())).get_text()
    except RecursionError:  # hundreds of nested elements: the words still count, the layout does not
        text = " ".join(tree.itertext())
    lines = (line.rstrip() for line in text.replace("\xa0", " ").splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _html_parser() -> lxml.html.HTMLParser:
    return lxml.html.HTMLParser(encoding="utf-8", no_network=True, huge_tree=True)


def _value(template: str, data: Mapping[str, Any]) -> Any:
    """The object tag's `value` filled from the task, as Label Studio does it: `$field`, or text with such."""
    whole = _VARIABLE.fullmatch(template)
    if whole:
        return _field(whole.group(1), data)
    return _VARIABLE.sub(lambda match: str(_field(match.group(1), data)), template)


def _field(path: str, data: Mapping[str, Any]) -> Any:
    """The field of that name, else what the path (`a.b[0]`) leads to."""
    if path in data and data[path] is not None:
        return data[path]
    found: Any = data
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(found, Mapping):
            found = found.get(step)
        elif isinstance(found, list) and step.isdigit() and int(step) < len(found):
            found = found[int(step)]
        else:
            found = None
    if found is None:
        has = ", ".join(map(str, data)) or "no fields"
        raise InputError(f"The task has no field {path}, which the labeling config reads; it has {has}")
    return found


def _turns(config: LabelingConfig, value: Any) -> list[tuple[str, str]]:
    """Who said what."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise InputError("Paragraphs need a list of objects in the task, one for each turn")
    if value and not any(config.text_key in turn for turn in value):
        raise InputError(
            f'No turn of the dialogue has "{config.text_key}": set textKey in the labeling config'
        )
    return [(_plain(turn.get(config.name_key)).strip(), _plain(turn.get(config.text_key))) for turn in value]


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _as_chat(turns: list[tuple[str, str]]) -> tuple[Message, ...]:
    """The turns as chat messages, or nothing when a name is not a chat role."""
    if not all(name.lower() in _CHAT_ROLES for name, _ in turns):
        return ()
    return tuple(Message(_CHAT_ROLES[name.lower()], said) for name, said in turns)
