"""`<Text>`: a text of the task as it is. What is no string is read as JSON."""

from collections.abc import Mapping
from typing import Any

from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import as_text
from llm_backend.reading.files import TaskFiles
from llm_backend.reading.tags.base import ObjectTag, register, value_of
from llm_backend.settings import Settings
from llm_backend.values import Reading


class Text(ObjectTag[None]):
    """Nothing is cleaned, and nothing is fetched unless the labeling config says `valueType="url"`."""

    name = "Text"

    def options(self, settings: Settings) -> None:
        """No setting changes it."""

    def read(self, source: Source, data: Mapping[str, Any], options: None, files: TaskFiles) -> Reading:
        """The text."""
        return Reading(as_text(value_of(source, data, files)), data)

    def show(self, source: Source, data: Mapping[str, Any], files: TaskFiles) -> str:
        """The text, too."""
        return self.read(source, data, None, files).text


register(Text())
