"""Shape + task → `Question`: the task is read once, to ask and to understand the reply."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from llm_backend.asking.prompts import build_messages, controls_message
from llm_backend.asking.shape import Shape
from llm_backend.label_studio.files import LabelStudio
from llm_backend.label_studio.regions import build_prediction
from llm_backend.labeling.controls import Control
from llm_backend.labeling.replies import values_from_replies
from llm_backend.labeling.schema import response_format
from llm_backend.labeling.source import Source
from llm_backend.labeling.task_data import variable
from llm_backend.plain import as_plain
from llm_backend.reading import TAGS, FileReader, show
from llm_backend.values import Completion, CompletionRequest, Json, Reading

_ASKED = tuple(field.name for field in fields(CompletionRequest) if field.name != "num_replies")


@dataclass(frozen=True)
class Question:
    """What is asked about one task.

    `controls` are those of the shape as this task shows them, `text` is what was read of it. Where the model
    takes no pictures, `without_pictures` gives the question with the text in them.
    """

    shape: Shape
    request: CompletionRequest
    controls: tuple[Control, ...]
    text: str
    without_pictures: Callable[[], "Question"] | None = None

    @functools.cached_property
    def keys(self) -> tuple[str, ...]:
        """One key for each reply: who is asked, what is sent, and the number of the reply."""
        asked = [getattr(self.request, name) for name in _ASKED]
        return keys_of([as_plain(self.shape.model), asked], self.request.num_replies)

    def prediction(self, completion: Completion) -> Json:
        """The prediction that the replies give."""
        shape = self.shape
        values = values_from_replies(self.controls, completion.replies, self.text, form=shape.form)
        return build_prediction(
            shape.prompt_name, shape.source.name, shape.prompt or "", values, shape.model_version
        )


def keys_of(asked: Any, num_replies: int) -> tuple[str, ...]:
    """A key (64 hex digits) for each of so many replies to what is asked."""
    whole = hashlib.sha256(json.dumps(asked, default=asdict).encode())
    keys = []
    for number in range(num_replies):
        numbered = whole.copy()
        numbered.update(b"#%d" % number)
        keys.append(numbered.hexdigest())
    return tuple(keys)


def make_question(shape: Shape, data: Json, reader: FileReader, label_studio: LabelStudio | None) -> Question:
    """The question about a task with this data; fetches the files that it names.

    Raises:
        InputError: the task lacks what the labeling config reads, or a file cannot be had or read.
        AddressRefusedError: the task names an address that may not be reached.
        PromptError: a template names fields that the task does not have.
    """

    tag, files = TAGS[shape.source.tag], reader.files_for(label_studio)
    read = tag.read(shape.source, data, shape.reading, files)

    def shown(source: Source) -> str:
        """What an object shows; the one that has been read is not read again."""
        return read.text if source == shape.source and tag.is_text else show(source, data, files)

    controls = tuple(control.for_task(data, shown) for control in shape.controls)
    question = _question(shape, data, controls, read)
    read_text = read.without_pictures
    if read_text is None:
        return question
    return replace(question, without_pictures=lambda: _question(shape, data, controls, read_text()))


def labels_of(controls: Iterable[Control]) -> tuple[str, ...]:
    """All labels that can be ticked, as the model is shown them, each once, in order."""
    return tuple(dict.fromkeys(label for control in controls for label in control.listed_labels))


def _question(shape: Shape, data: Json, controls: tuple[Control, ...], read: Reading) -> Question:
    messages = build_messages(
        shape.prompt or "",
        read,
        prompt_is_template=shape.prompt_is_template,
        template=shape.template,
        labels=labels_of(controls),
        object_field=variable(shape.source.value),
    )
    if shape.form != "plain":
        messages = (controls_message(shape.wording, controls, data), *messages)
    judged = any(control.closed for control in controls)
    request = CompletionRequest(
        shape.model.name,
        messages,
        shape.temperature,
        shape.num_responses,
        response_format=response_format(controls) if shape.form == "json" else None,
        logprobs=shape.form == "json" and judged and shape.num_responses == 1,
    )
    return Question(shape, request, controls, read.text)
