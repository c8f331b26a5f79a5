"""What an object tag has to say of itself, and the registry of those that do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import filled
from llm_backend.reading.files import TaskFiles
from llm_backend.settings import Settings
from llm_backend.values import Reading

Options = TypeVar("Options")


class ObjectTag(ABC, Generic[Options]):
    """How an object of that name in a labeling config is read. Its objects are values: it keeps nothing.

    `options_type` is the frozen dataclass of its options, if they are one. `is_text` says that the text of a
    reading is what people see of the object, which so need not be read again for `show`. `attributes` are
    the optional fields of `Source` that matter.
    """

    name: ClassVar[str]
    options_type: ClassVar[type | None] = None
    is_text: ClassVar[bool] = True
    attributes: ClassVar[frozenset[str]] = frozenset({"value_type"})

    @abstractmethod
    def options(self, settings: Settings) -> Options:
        """All settings that shape how it is read, as one frozen value; None where none does."""

    @abstractmethod
    def read(self, source: Source, data: Mapping[str, Any], options: Options, files: TaskFiles) -> Reading:
        """What a model reads of the object in a task with this data.

        Raises:
            InputError: the task lacks the field, has what the tag cannot read, or a file cannot be had.
            AddressRefusedError: the task names an address that may not be reached.
        """

    @abstractmethod
    def show(self, source: Source, data: Mapping[str, Any], files: TaskFiles) -> str:
        """The text of the object, for a comparison with another; the name of what is no text.

        Raises:
            InputError, AddressRefusedError: as `read` does.
        """


# By name, in the order in which people are told of them.
TAGS: dict[str, ObjectTag[Any]] = {}


def register(tag: ObjectTag[Any]) -> None:
    """Makes the tag one that can be read; a tag of the same name gives way."""
    TAGS[tag.name] = tag


def value_of(source: Source, data: Mapping[str, Any], files: TaskFiles) -> Any:
    """The object's value in the task; with `valueType="url"` the text at the address that it is.

    Raises:
        InputError, AddressRefusedError: as `ObjectTag.read` does.
    """
    value = filled(source.value, data)
    return files.text_at(value) if source.value_type == "url" else value
