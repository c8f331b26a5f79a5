"""Templates and messages: placeholders, braces, and what beats what."""

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_backend.asking.prompts import build_messages, render
from llm_backend.errors import PromptError
from llm_backend.values import Message, Reading

FIELDS: dict[str, Any] = {
    "text": "T",
    "labels": "['Good', 'Bad']",
    "first name": "Ada",
    "price-eur": 5,
    "größe": "L",
    "nothing": None,
    "nested": {"k": ["é"]},
    "flag": True,
    "tricky": "{text} {{text}} {nope}",
    "a.b": "dotted",
}
FREE_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]) | st.sampled_from("{}{}{}tex \n"))
NO_BRACES = st.text(alphabet=st.characters(exclude_characters="{}"))


@dataclass(frozen=True)
class Wrapping:
    """What a prompt is put into, and whether it is the default prompt."""

    template: str | None
    default_prompt: str | None

    def messages(
        self, prompt: str, task: Reading, *, labels: tuple[str, ...], object_field: str
    ) -> tuple[Message, ...]:
        """The messages for one task."""
        return build_messages(
            prompt,
            task,
            prompt_is_template=self.template is None or prompt == self.default_prompt,
            template=self.template,
            labels=labels,
            object_field=object_field,
        )


def parameters(
    template: str = "Source Text: {text}\n\nTask Directive: {prompt}",
    *,
    internal: bool = True,
    default_prompt: str | None = None,
) -> Wrapping:
    """How a prompt is sent, with or without the internal template."""
    return Wrapping(template if internal else None, default_prompt)


def content(
    params: Wrapping,
    prompt: str,
    data: dict[str, Any] | None = None,
    *,
    text: str = "T",
    labels: tuple[str, ...] = ("Good", "Bad"),
    object_field: str = "text",
) -> str:
    """The content of the one message for a task with this data."""
    task = Reading(text=text, fields=data or {})
    (message,) = params.messages(prompt, task, labels=labels, object_field=object_field)
    assert message.role == "user"
    assert isinstance(message.content, str)
    return message.content


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("", ""),
        ("no placeholder", "no placeholder"),
        ("{text}", "T"),
        ("{text}{text}", "TT"),
        ("[{text}]", "[T]"),
        ("${text}", "$T"),
        ("{labels}", "['Good', 'Bad']"),
        ("{first name}", "Ada"),
        ("{price-eur}", "5"),
        ("{größe}", "L"),
        ("<{nothing}>", "<>"),
        ("{nested}", '{"k": ["é"]}'),
        ("{flag}", "true"),
        ("{a.b}", "dotted"),
        ("{tricky}", "{text} {{text}} {nope}"),
    ],
)
def test_placeholders(template: str, rendered: str) -> None:
    """The name of a field in braces is replaced by the field; what stands in the field is data."""
    assert render(template, FIELDS) == rendered


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("{{", "{"),
        ("}}", "}"),
        ("{{}}", "{}"),
        ("{{text}}", "{text}"),
        ("{{nope}}", "{nope}"),
        ("{{{text}}}", "{T}"),
        ("{{{{text}}}}", "{{text}}"),
        ('{{"label": "{text}"}}', '{"label": "T"}'),
        ('{{"a": {{"b": "{text}"}}}}', '{"a": {"b": "T"}}'),
    ],
)
def test_doubled_braces_are_braces(template: str, rendered: str) -> None:
    """`{{` and `}}` give single braces, around placeholders too."""
    assert render(template, FIELDS) == rendered


@pytest.mark.parametrize(
    "template",
    [
        "{",
        "}",
        "}{",
        "{}",
        "{text",
        "text}",
        "{ }",
        '{"label": "..."}',
        "{'label': 'x'}",
        '{"a": {"b": 1}}',
        '{"a": {"b": {}}}',
        '{"a": [{"b": {"c": null}}, {}]}',
        '{\n  "label": "x",\n  "why": {"short": true}\n}',
        "Answer as {name: value}",
        "One of {positive, negative}",
        "function f() { return x; }",
        "x^{2}",
        "{{% raw %}"[1:],
        "{0}",
        "{text.upper}",
        "{text.__class__}",
        "{text[0]}",
        "{nested[k]}",
        "{nested.k}",
        "{text!r}",
        "{text:>10}",
        "{\ntext\n}",
    ],
)
def test_other_braces_stay(template: str) -> None:
    """JSON, code and Python's format tricks are text: nothing is looked up within a field."""
    assert render(template, FIELDS) == template


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ('{"label": "{text}"}', '{"label": "T"}'),
        ('{"a": {"b": "{text}"}}', '{"a": {"b": "T"}}'),
        ('{"a": {"b": {text}}}', '{"a": {"b": T}}'),
        ('{"a": {"b": 1}} and {{text}}', '{"a": {"b": 1}} and {text}'),
    ],
)
def test_placeholders_within_json(template: str, rendered: str) -> None:
    """A prompt that shows JSON can hold placeholders in it."""
    assert render(template, FIELDS) == rendered


@pytest.mark.parametrize(
    ("template", "missing"),
    [
        ("{nope}", ["{nope}"]),
        ("{Text}", ["{Text}"]),
        ("{txet} {text} {lables} {txet}", ["{txet}", "{lables}"]),
        ("{__class__}", ["{__class__}"]),
        ("{prompt}", ["{prompt}"]),
    ],
)
def test_missing_names_are_listed(template: str, missing: list[str]) -> None:
    """A name that is not there gives one error with all such names, each once, and those that exist."""
    with pytest.raises(PromptError) as caught:
        render(template, FIELDS)
    assert ", ".join(missing) in caught.value.reason
    assert caught.value.reason.count(missing[0]) == 1
    assert all(f"{{{name}}}" in caught.value.reason for name in FIELDS)


@settings(deadline=None)
@given(NO_BRACES)
def test_a_prompt_without_braces_is_unchanged(prompt: str) -> None:
    """What a person types without braces is sent word for word."""
    assert render(prompt, FIELDS) == prompt


@settings(deadline=None)
@given(FREE_TEXT)
@example("{" * 50 + "}" * 49)
@example('{"a": "}}}}"}')
def test_any_prompt_is_rendered_or_refused(prompt: str) -> None:
    """Whatever a person types, the only error is ours, and nothing becomes an empty prompt."""
    try:
        rendered = render(prompt, FIELDS)
    except PromptError:
        assert "{" in prompt
    else:
        assert rendered or not prompt


@settings(deadline=None)
@given(FREE_TEXT)
def test_the_braces_of_a_field_are_data(value: str) -> None:
    """What stands in a field arrives as it is, whatever it looks like."""
    assert render("<{text}|{text}>", {"text": value}) == f"<{value}|{value}>"


@settings(deadline=None)
@given(NO_BRACES, NO_BRACES)
def test_doubling_braces_escapes_anything(before: str, after: str) -> None:
    """A text whose braces are doubled comes out with single ones."""
    text = f"{before}{{text}}{after}{{x: {{y}}}}"
    assert render(text.replace("{", "{{").replace("}", "}}"), FIELDS) == text


leaves = st.none() | st.booleans() | st.integers() | NO_BRACES
inner = leaves | st.lists(leaves, max_size=3) | st.dictionaries(NO_BRACES, leaves, max_size=3)
outer = inner | st.lists(inner, max_size=2) | st.dictionaries(NO_BRACES, inner, max_size=3)
json_objects = st.dictionaries(NO_BRACES, outer, max_size=3)


@settings(deadline=None)
@given(json_objects, st.sampled_from([None, 2]), st.booleans())
@example({"a": {"b": {"c": {}}}}, None, False)
@example({"": ""}, None, False)
def test_json_in_a_prompt_stays(value: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    """An object as `json.dumps` writes it, nested as it may be, is sent as it is."""
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert render(text, FIELDS) == text
    assert render(f"Answer {text} for {{text}}", FIELDS) == f"Answer {text} for T"


def test_the_internal_template_wraps_the_prompt() -> None:
    """With the internal template on, the prompt goes into it word for word."""
    assert content(parameters(), "Is it {good}?") == "Source Text: T\n\nTask Directive: Is it {good}?"


def test_the_internal_template_knows_labels_and_the_task_s_fields() -> None:
    """`PROMPT_TEMPLATE` takes `{labels}` and any field of the task's data."""
    params = parameters("{prompt}|{labels}|{source}|{text}")
    assert content(params, "P", {"source": "web"}) == "P|['Good', 'Bad']|web|T"


def test_without_the_internal_template_the_prompt_is_the_template() -> None:
    """Off, the prompt takes the task's fields and `{labels}`, written as Python writes a list."""
    prompt = "Classify {text} from {source} as {labels}"
    expected = "Classify T from web as ['Good', 'It\\'s \"bad\"']"
    params = parameters("not used: {prompt}", internal=False)
    assert content(params, prompt, {"source": "web"}, labels=("Good", 'It\'s "bad"')) == expected


def test_a_missing_field_of_the_prompt_is_an_error() -> None:
    """Off, a name that the task does not have is an error that lists what it has."""
    with pytest.raises(PromptError, match=r"\{nope\}.*\{source\}"):
        content(parameters(internal=False), "{nope}", {"source": "web"})


@pytest.mark.parametrize("internal", [True, False])
def test_the_default_prompt_is_a_template_in_both_modes(internal: bool) -> None:
    """`DEFAULT_PROMPT` takes fields and `{labels}` with the internal template on and off."""
    default = "Classify {text} as {labels}"
    sent = content(parameters("<{prompt}>", internal=internal, default_prompt=default), default)
    expected = "Classify T as ['Good', 'Bad']"
    assert sent == (f"<{expected}>" if internal else expected)


@pytest.mark.parametrize("internal", [True, False])
def test_placeholders_in_the_task_are_data(internal: bool) -> None:
    """What stands in a task is never a template, and cannot bring in the prompt."""
    data = {"text": "{prompt} {secret} {{labels}}", "secret": "s"}
    sent = content(parameters("{text}|{prompt}", internal=internal), "P {text}", data, text=data["text"])
    expected = data["text"] + "|P {text}" if internal else "P " + data["text"]
    assert sent == expected


def test_special_names_beat_the_task_s_fields() -> None:
    """`{text}`, `{prompt}` and `{labels}` mean what they always mean, whatever fields the task has."""
    data = {"text": "field", "prompt": "field", "labels": "field", "body": "field"}
    params = parameters("{text}|{prompt}|{labels}|{body}")
    assert content(params, "P", data, text="read", object_field="body") == "read|P|['Good', 'Bad']|read"


@pytest.mark.parametrize("name", ["labels", "prompt"])
def test_special_names_beat_the_object_s_field(name: str) -> None:
    """They do so even where the object tag reads a field of that name."""
    params = parameters("{text}|{prompt}|{labels}")
    assert content(params, "P", {name: "field"}, text="read", object_field=name) == "read|P|['Good', 'Bad']"


def test_the_object_s_field_stands_for_the_text_as_read() -> None:
    """The field that the object tag reads gives what was read of it, such as a page without its tags."""
    params = parameters(internal=False)
    assert content(params, "{html}", {"html": "<p>x</p>"}, text="x", object_field="html") == "x"


@pytest.mark.parametrize(
    ("internal", "prompt", "sent"),
    [(True, "Go on: {text}", "Go on: {text}"), (False, "Go on: {topic}", "Go on: tea")],
)
def test_a_dialogue_is_sent_as_messages(internal: bool, prompt: str, sent: str) -> None:
    """Chat messages go first as they are, and the prompt is the last user message."""
    dialogue = (Message("system", "Be {kind}"), Message("user", "Hi"), Message("assistant", "Hello"))
    task = Reading(text="unused", fields={"topic": "tea"}, dialogue=dialogue)
    messages = parameters(internal=internal).messages(prompt, task, labels=(), object_field="")
    assert messages == (*dialogue, Message("user", sent))


@settings(deadline=None)
@given(FREE_TEXT)
def test_any_typed_prompt_reaches_the_model(prompt: str) -> None:
    """With the internal template, whatever was typed is sent word for word."""
    assert content(parameters("<{prompt}>"), prompt) == f"<{prompt}>"
