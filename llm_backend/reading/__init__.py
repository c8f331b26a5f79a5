"""Task data → what the LLM reads. A value is read from elsewhere only where the labeling config says so.

An Image is read from where its value says; a text only with `valueType="url"`. Nothing is ever read from this
server's own disk because a task names it.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from llm_backend.errors import InputError
from llm_backend.label_studio.files import LabelStudio, label_studio_for
from llm_backend.labeling.config import LabelingConfig
from llm_backend.reading.files import FileReader, ImageOptions, attached_note
from llm_backend.reading.text import as_chat, turns_of, visible_text
from llm_backend.values import TaskInput

__all__ = ["FileReader", "ImageOptions", "LabelStudio", "label_studio_for", "object_field", "read_input"]

_VARIABLE = re.compile(r"\$([\w.\[\]-]+)")


def read_input(
    config: LabelingConfig,
    data: Mapping[str, Any],
    *,
    dialogue_format: str,
    images: ImageOptions,
    label_studio: LabelStudio | None,
    reader: FileReader,
) -> TaskInput:
    """What the object tag shows of this task.

    `dialogue_format` is `text` or `messages`: with the latter, Paragraphs whose names are all chat roles
    are also given as chat messages. `images.image_input` decides between pictures and the text in them;
    `auto` means pictures here.

    Raises:
        InputError: the task lacks the field, its value is not what the tag needs, or a file cannot be had.
        AddressRefusedError: the task names an address that may not be reached.
    """
    value = _value(config.object_value, data)
    if config.object_tag == "Image":
        pictures = reader.pictures(_addresses(value), images, label_studio)
        if images.image_input == "ocr":
            return TaskInput(text=reader.text_in(pictures, images.ocr_languages), fields=data)
        return TaskInput(text=attached_note(), fields=data, pictures=pictures)
    if config.value_type == "url":
        value = reader.text_at(value, label_studio)
    if config.object_tag == "Paragraphs":
        turns = turns_of(config, _parsed(value) if config.value_type == "url" else value)
        text = "\n".join(f"{name}: {said}" if name else said for name, said in turns)
        dialogue = as_chat(turns) if dialogue_format == "messages" else ()
        return TaskInput(text=text, fields=data, dialogue=dialogue)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return TaskInput(text=visible_text(text) if config.object_tag == "HyperText" else text, fields=data)


def object_field(config: LabelingConfig) -> str:
    """The field of the task that the object tag reads as a whole; empty when there is no single one."""
    whole = _VARIABLE.fullmatch(config.object_value)
    return whole.group(1) if whole else ""


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


def _addresses(value: Any) -> list[str]:
    """Where the pictures of an Image are: one address, or with `valueList` a list of them."""
    addresses = value if isinstance(value, list) else [value]
    if not addresses or not all(isinstance(address, str) and address.strip() for address in addresses):
        raise InputError("An Image needs the address of a picture in the task, or a list of addresses")
    return [address.strip() for address in addresses]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("Paragraphs by address need a JSON file with a list of objects") from None
