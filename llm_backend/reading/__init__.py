"""Task data → what the LLM reads. A value is read from elsewhere only where the labeling config says so.

An Image is read from where its value says; a text only with `valueType="url"`. Nothing is ever read from this
server's own disk because a task names it. Each read of a task goes through the tag that `TAGS` has.
"""

from collections.abc import Mapping
from typing import Any

import llm_backend.reading.tags  # noqa: F401 - registers the tags
from llm_backend.labeling.source import ReadableTag, Source
from llm_backend.reading.files import FileReader, TaskFiles
from llm_backend.reading.tags.base import TAGS, ObjectTag, register
from llm_backend.values import Reading

__all__ = ["TAGS", "FileReader", "ObjectTag", "Reading", "TaskFiles", "readable", "register", "show"]


def readable() -> tuple[ReadableTag, ...]:
    """The object tags that a model can read, in the order in which people are told of them."""
    return tuple(ReadableTag(tag.name, tag.attributes) for tag in TAGS.values())


def show(source: Source, data: Mapping[str, Any], files: TaskFiles) -> str:
    """The text that an object shows; the name of what is no text, or cannot be read.

    Raises:
        InputError, AddressRefusedError: as `ObjectTag.read` does.
    """
    tag = TAGS.get(source.tag)
    return tag.show(source, data, files) if tag else source.name
