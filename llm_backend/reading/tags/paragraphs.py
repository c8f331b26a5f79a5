"""`<Paragraphs>`: who says what in a dialogue, as lines or as chat messages."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from llm_backend.errors import InputError
from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import as_text
from llm_backend.reading.files import TaskFiles
from llm_backend.reading.tags.base import ObjectTag, register, value_of
from llm_backend.settings import Settings
from llm_backend.values import Message, Reading, Role

DialogueFormat = Literal["text", "messages"]
_CHAT_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
}


class Paragraphs(ObjectTag[DialogueFormat]):
    """A list of turns, each with a name and a text under the tag's own keys."""

    name = "Paragraphs"
    attributes = frozenset({"value_type", "name_key", "text_key"})

    def options(self, settings: Settings) -> DialogueFormat:
        """Whether a chat goes to the model as chat messages."""
        return settings.dialogue_format

    def read(
        self, source: Source, data: Mapping[str, Any], options: DialogueFormat, files: TaskFiles
    ) -> Reading:
        """The turns as lines; with `messages`, those of a chat also as chat messages."""
        value = value_of(source, data, files)
        turns = _turns(source, _parsed(value) if source.value_type == "url" else value)
        text = "\n".join(f"{name}: {said}" if name else said for name, said in turns)
        return Reading(text, data, dialogue=_as_chat(turns) if options == "messages" else ())

    def show(self, source: Source, data: Mapping[str, Any], files: TaskFiles) -> str:
        """The turns as lines."""
        return self.read(source, data, "text", files).text


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InputError("Paragraphs by address need a JSON file with a list of objects") from None


def _turns(source: Source, value: Any) -> list[tuple[str, str]]:
    """Who said what."""
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        raise InputError("Paragraphs need a list of objects in the task, one for each turn")
    if value and not any(source.text_key in turn for turn in value):
        raise InputError(
            f'No turn of the dialogue has "{source.text_key}": set textKey in the labeling config'
        )
    name, text = source.name_key, source.text_key
    return [(as_text(turn.get(name)).strip(), as_text(turn.get(text))) for turn in value]


def _as_chat(turns: list[tuple[str, str]]) -> tuple[Message, ...]:
    """The turns as chat messages; nothing where a name is no chat role."""
    if not all(name.lower() in _CHAT_ROLES for name, _ in turns):
        return ()
    return tuple(Message(_CHAT_ROLES[name.lower()], said) for name, said in turns)


register(Paragraphs())
