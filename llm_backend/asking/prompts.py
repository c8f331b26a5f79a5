"""Template + prompt + what was read of the task → the messages that are sent. Plain functions."""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_backend.errors import PromptError
from llm_backend.labeling.controls import Control, Form
from llm_backend.labeling.task_data import as_text, value_at
from llm_backend.settings import PROJECT_ROOT
from llm_backend.values import Message, Reading, TextPart

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}\n]+)\}|[{}]")
_WORD = re.compile(r"[^\W\d]\w*(-\w+)*")


def build_messages(
    prompt: str,
    task: Reading,
    *,
    prompt_is_template: bool,
    template: str | None,
    labels: tuple[str, ...],
    object_field: str,
) -> tuple[Message, ...]:
    """The messages for one task.

    The placeholders of a prompt are filled where it is a template; any other prompt goes word for word into
    `{prompt}` of the `template`, or after the dialogue as the last user message. Pictures follow the text, in
    the same message.

    Raises:
        PromptError: a template names fields that the task does not have.
    """
    read = {object_field: task.text} if object_field else {}
    fields = {**task.fields, **read, "text": task.text, "labels": str(list(labels))}
    if prompt_is_template:
        prompt = render(prompt, fields)
    if task.dialogue:
        return (*task.dialogue, Message("user", prompt))
    if template is not None:
        prompt = render(template, {**fields, "prompt": prompt})
    if task.pictures:
        return (Message("user", (TextPart(prompt), *task.pictures)),)
    return (Message("user", prompt),)


def wording(controls: Sequence[Control], form: Form) -> tuple[str, ...]:
    """What a model is told in this form: a frame for all controls, and a template for each of them.

    `form` is `json` or `lines`; with `plain` a model is told nothing of the controls.
    """
    if form == "plain":
        return ()
    return (_sections()[form], *(control.wording(form) for control in controls))


def controls_message(
    wording: Sequence[str], controls: Sequence[Control], fields: Mapping[str, Any]
) -> Message:
    """What is added to the prompt: which controls there are, and how to answer for them.

    `fields` are the task's: a Header's `$field` stands for one of them.
    """
    frame, *templates = wording
    described = []
    for template, control in zip(templates, controls, strict=True):
        header = control.header
        if header.startswith("$"):
            header = as_text(value_at(header[1:], fields))
        said = {"name": control.name, "header": f" ({header.strip().rstrip(':')})" if header.strip() else ""}
        described.append(render(template, said | control.fields()))
    return Message("system", render(frame, {"controls": "\n".join(described)}))


@functools.cache
def _sections() -> dict[str, str]:
    """The frames of `prompt_templates/controls.txt`, by their form."""
    return sections_of((PROJECT_ROOT / "prompt_templates" / "controls.txt").read_text(encoding="utf-8"))


def sections_of(template: str) -> dict[str, str]:
    """The parts of a template that begin with a line `## name`, by that name."""
    _, *parts = re.split(r"(?m)^## (\S+)\n", template)
    return {name: text.strip("\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}


def render(template: str, fields: Mapping[str, Any]) -> str:
    """The template with every `{name}` replaced by that field, in one pass: braces in a field are data.

    A placeholder is the exact name of a field in braces, or one word in braces. Other braces, such as
    JSON's, stay as they are; `{{` and `}}` give single braces. Attributes and indexes are never looked up.

    Raises:
        PromptError: lists all words in braces that name no field, and the fields that exist.
    """
    missing: dict[str, None] = {}
    open_braces: list[str] = []
    parts: list[str] = []
    position = 0
    while match := _TOKEN.search(template, position):
        parts.append(template[position : match.start()])
        token, name = match.group(), match.group(1)
        position = match.end()
        if name in fields:
            parts.append(as_text(fields[name]))
        elif name is not None:
            if _WORD.fullmatch(name):
                missing[name] = None
            parts.append(token)
        elif token.startswith("{"):
            open_braces.append(token)
            parts.append("{")
        else:
            opened_by = open_braces.pop() if open_braces else "{{"
            position = match.start() + 1 if opened_by == "{" else position
            parts.append("}")
    parts.append(template[position:])
    if missing:
        raise PromptError(
            f"The prompt names {_listed(missing)}, which the task does not have; it has {_listed(fields)}"
        )
    return "".join(parts)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
