"""Template + prompt + what was read of the task → the messages that are sent. Plain functions, no I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_backend.errors import PromptError
from llm_backend.labeling.controls import Control
from llm_backend.labeling.task_data import as_text, value_at
from llm_backend.values import Message, Parameters, Reading, TextPart

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}\n]+)\}|[{}]")
_WORD = re.compile(r"[^\W\d]\w*(-\w+)*")


def build_messages(
    parameters: Parameters, prompt: str, task: Reading, *, labels: tuple[str, ...], object_field: str
) -> tuple[Message, ...]:
    """The messages for one task.

    With the internal template, the prompt goes into `{prompt}` word for word, or after the dialogue as the
    last user message. Without it the prompt is the template. The default prompt is a template in both.
    Pictures follow the text, in the same message.

    Raises:
        PromptError: a template names fields that the task does not have.
    """
    read = {object_field: task.text} if object_field else {}
    fields = {**task.fields, **read, "text": task.text, "labels": str(list(labels))}
    if not parameters.use_internal_prompt_template or prompt == parameters.default_prompt:
        prompt = render(prompt, fields)
    if task.dialogue:
        return (*task.dialogue, Message("user", prompt))
    if parameters.use_internal_prompt_template:
        prompt = render(parameters.prompt_template, {**fields, "prompt": prompt})
    if task.pictures:
        return (Message("user", (TextPart(prompt), *task.pictures)),)
    return (Message("user", prompt),)


def controls_message(
    sections: Mapping[str, str], controls: Sequence[Control], fields: Mapping[str, Any], *, form: str
) -> Message:
    """What is added to the prompt: which controls there are, and how to answer for them.

    `sections` are those of `prompt_templates/controls.txt`; `form` is `json` or `lines`. `fields` are the
    task's: a Header's `$field` stands for one of them.
    """
    described = []
    for control in controls:
        section = sections.get(f"{control.section}-{form}", sections[control.section])
        header = control.header
        if header.startswith("$"):
            header = as_text(value_at(header[1:], fields))
        said = {"name": control.name, "header": f" ({header.strip().rstrip(':')})" if header.strip() else ""}
        described.append(render(section, said | control.fields()))
    return Message("system", render(sections[form], {"controls": "\n".join(described)}))


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
