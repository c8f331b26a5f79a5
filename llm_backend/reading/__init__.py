"""Task data → what the LLM reads. A value is read from elsewhere only where the labeling config says so.

An Image is read from where its value says; a text only with `valueType="url"`. Nothing is ever read from this
server's own disk because a task names it.
"""

import json
from collections.abc import Mapping
from typing import Any

from llm_backend.errors import InputError
from llm_backend.label_studio.files import LabelStudio, label_studio_for
from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import filled
from llm_backend.reading.files import FileReader, ImageOptions, attached_note
from llm_backend.reading.text import as_chat, turns_of, visible_text
from llm_backend.values import TaskInput

__all__ = ["FileReader", "ImageOptions", "LabelStudio", "label_studio_for", "read_input"]

# The object tags that a model can read.
READABLE = ("Text", "HyperText", "Paragraphs", "Image")


def read_input(
    source: Source,
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
    value = filled(source.value, data)
    if source.tag == "Image":
        pictures = reader.pictures(_addresses(value), images, label_studio)
        if images.image_input == "ocr":
            return TaskInput(text=reader.text_in(pictures, images.ocr_languages), fields=data)
        return TaskInput(text=attached_note(), fields=data, pictures=pictures)
    if source.value_type == "url":
        value = reader.text_at(value, label_studio)
    if source.tag == "Paragraphs":
        turns = turns_of(source, _parsed(value) if source.value_type == "url" else value)
        text = "\n".join(f"{name}: {said}" if name else said for name, said in turns)
        dialogue = as_chat(turns) if dialogue_format == "messages" else ()
        return TaskInput(text=text, fields=data, dialogue=dialogue)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return TaskInput(text=visible_text(text) if source.tag == "HyperText" else text, fields=data)


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
