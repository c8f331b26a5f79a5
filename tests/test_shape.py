"""Shapes: what shapes an answer is in the version, all of it, and nothing else is."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_backend.asking import shape as shapes_module
from llm_backend.asking.question import Question, make_question
from llm_backend.asking.shape import Access, Shape, Shapes, shape_from_json
from llm_backend.errors import InputError, MissingSettingsError
from llm_backend.parameters import load_settings
from llm_backend.reading import FileReader
from llm_backend.settings import ExtraParams, Settings
from llm_backend.values import Completion, Endpoint, Json, Reply
from tests.conftest import CLASSIFICATION

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MakeSettings = Callable[..., Settings]
OWN = {"OPENAI_API_KEY": "sk-test"}
READER = FileReader(load_settings({}, env_file=None))
DIALOGUE = (
    '<View><Paragraphs name="chat" value="$chat"/><TextArea name="prompt" toName="chat"/>'
    '<TextArea name="response" toName="chat"/></View>'
)
PICTURE = (
    '<View><Image name="image" value="$image"/><TextArea name="prompt" toName="image"/>'
    '<TextArea name="response" toName="image"/></View>'
)
RATED = CLASSIFICATION.replace("</View>", '<Rating name="stars" toName="text"/></View>')
OTHER_PREFIX = CLASSIFICATION.replace("</View>", '<TextArea name="ask" toName="text"/></View>')


def version(
    config: str = CLASSIFICATION, extra: Json | None = None, variables: Mapping[str, str] | None = None
) -> str:
    """The version of a project with this labeling config, extra params and settings."""
    made = load_settings(OWN | dict(variables or {}), env_file=None)
    return Shapes(made).shape(config, extra or {}, None).model_version


# Each setting takes a side. What shapes an answer: another value, and what else must be so that it counts.
SHAPES: dict[str, tuple[str, dict[str, str], str]] = {
    "DEFAULT_PROMPT": ("Is it?", {}, CLASSIFICATION),
    "PROMPT_PREFIX": ("ask", {}, OTHER_PREFIX),
    "USE_INTERNAL_PROMPT_TEMPLATE": ("0", {}, CLASSIFICATION),
    "PROMPT_TEMPLATE": ("{prompt}: {text}", {}, CLASSIFICATION),
    "DIALOGUE_FORMAT": ("messages", {}, DIALOGUE),
    "RESPONSE_FORMAT": ("text", {}, CLASSIFICATION),
    "FILL": ("all", {}, RATED),
    "OPENAI_PROVIDER": ("embedded", {}, CLASSIFICATION),
    "OPENAI_MODEL": ("another", {}, CLASSIFICATION),
    "OPENAI_BASE_URL": ("https://host/v1", {}, CLASSIFICATION),
    "AZURE_RESOURCE_ENDPOINT": ("https://r.openai.azure.com", {"OPENAI_PROVIDER": "azure"}, CLASSIFICATION),
    "AZURE_DEPLOYMENT_NAME": ("gpt", {"OPENAI_PROVIDER": "azure"}, CLASSIFICATION),
    "AZURE_API_VERSION": ("2024-10-21", {"OPENAI_PROVIDER": "azure"}, CLASSIFICATION),
    "OLLAMA_ENDPOINT": ("http://host:1/v1", {"OPENAI_PROVIDER": "ollama"}, CLASSIFICATION),
    "EMBEDDED_MODEL_PATH": ("@file", {"OPENAI_PROVIDER": "embedded"}, CLASSIFICATION),
    "TEMPERATURE": ("0.1", {}, CLASSIFICATION),
    "NUM_RESPONSES": ("2", {}, CLASSIFICATION),
    "IMAGE_INPUT": ("ocr", {}, PICTURE),
    "OCR_LANGUAGES": ("eng,deu", {}, PICTURE),
    "IMAGE_MAX_SIDE": ("512", {}, PICTURE),
    "IMAGE_MAX_PAGES": ("2", {}, PICTURE),
}
# What cannot shape one: keys, times, limits, places, what is done with an answer. Each with another value.
CANNOT: dict[str, str] = {
    "REMEMBER_PROMPT": "submitted",
    "SHOW_ERRORS": "0",
    "OPENAI_API_KEY": "sk-other",
    "LLM_TIMEOUT": "7",
    "LLM_MAX_RETRIES": "7",
    "ALLOWED_HOSTS": "host",
    "IMAGE_MAX_PIXELS": "20000",
    "FETCH_TIMEOUT": "7",
    "FETCH_MAX_BYTES": "7000",
    "MAX_CONCURRENCY": "7",
    "PREDICT_TIMEOUT": "7",
    "LEASE_SECONDS": "7",
    "CACHE_DAYS": "7",
    "CACHE_MAX_ROWS": "7",
    "LABEL_STUDIO_URL": "https://label-studio",
    "LABEL_STUDIO_API_KEY": "token",
    "BASIC_AUTH_USER": "user",
    "BASIC_AUTH_PASS": "password",
    "WEBHOOK_UPDATES_PROMPT": "1",
    "MODEL_DIR": "elsewhere",
    "DATABASE_URL": "sqlite:///elsewhere.sqlite3",
    "MAX_REQUEST_BYTES": "7000",
    "LOG_LEVEL": "ERROR",
    "LOG_FORMAT": "json",
    "PORT": "7000",
    "WORKERS": "7",
    "THREADS": "77",
}
# Where what shapes an answer is not in force, it must not count.
NOT_IN_FORCE = [
    ("PROMPT_TEMPLATE", "{text}", {"USE_INTERNAL_PROMPT_TEMPLATE": "0"}, CLASSIFICATION),
    ("DIALOGUE_FORMAT", "messages", {}, CLASSIFICATION),
    ("OLLAMA_ENDPOINT", "http://host:1/v1", {}, CLASSIFICATION),
    ("AZURE_API_VERSION", "2024-10-21", {}, CLASSIFICATION),
    ("OPENAI_BASE_URL", "https://host/v1", {"OPENAI_PROVIDER": "ollama"}, CLASSIFICATION),
    ("OPENAI_MODEL", "another", {"OPENAI_PROVIDER": "embedded"}, CLASSIFICATION),
    ("FILL", "all", {}, CLASSIFICATION),
    ("IMAGE_INPUT", "ocr", {}, CLASSIFICATION),
    ("OCR_LANGUAGES", "deu", {}, DIALOGUE),
    ("DEFAULT_PROMPT", "", {}, CLASSIFICATION),
]


def test_every_setting_takes_a_side() -> None:
    """A new setting must be put into one of the two tables."""
    names = {name.upper() for name in Settings.model_fields}
    assert SHAPES.keys() | CANNOT.keys() == names
    assert not SHAPES.keys() & CANNOT.keys()


@pytest.mark.parametrize("name", SHAPES)
def test_what_shapes_an_answer_is_in_the_version(name: str, tmp_path: Path) -> None:
    """Another value gives another version."""
    value, besides, config = SHAPES[name]
    if value == "@file":
        value = str(tmp_path / "other.gguf")
        Path(value).touch()
    assert version(config, variables=besides) != version(config, variables=besides | {name: value})


@pytest.mark.parametrize("name", CANNOT)
@pytest.mark.parametrize("config", [CLASSIFICATION, PICTURE])
def test_what_cannot_shape_an_answer_is_not_in_the_version(name: str, config: str) -> None:
    """Keys, times, limits and places leave it as it is."""
    pair = {"BASIC_AUTH_USER": "user", "BASIC_AUTH_PASS": "pass"} if name.startswith("BASIC_AUTH") else {}
    assert version(config) == version(config, variables=pair | {name: CANNOT[name]})


@pytest.mark.parametrize(("name", "value", "besides", "config"), NOT_IN_FORCE)
def test_what_is_not_in_force_is_not_in_the_version(
    name: str, value: str, besides: dict[str, str], config: str
) -> None:
    """A setting that this project does not use changes nothing for it."""
    assert version(config, variables=besides) == version(config, variables=besides | {name: value})


# The same for extra params: another value, and the extra params that must be beside it.
EXTRA: dict[str, tuple[Any, Json]] = {
    "provider": ("ollama", {}),
    "model": ("another", {}),
    "temperature": (0.1, {}),
    "num_responses": (2, {}),
    "default_prompt": ("Is it?", {}),
    "prompt_template": ("{prompt}: {text}", {}),
    "use_internal_prompt_template": (False, {}),
    "base_url": ("https://host/v1", {"api_key": "k"}),
    "resource_endpoint": ("https://s", {"provider": "azure", "api_key": "k", "deployment_name": "d"}),
    "deployment_name": ("d", {"provider": "azure", "api_key": "k", "resource_endpoint": "https://r"}),
    "api_version": ("2024-10-21", {"provider": "azure", "api_key": "k", "resource_endpoint": "https://r"}),
}


def test_every_extra_param_takes_a_side() -> None:
    """All but the key shape an answer."""
    assert EXTRA.keys() | {"api_key"} == set(ExtraParams.model_fields)


@pytest.mark.parametrize("name", EXTRA)
def test_extra_params_are_in_the_version(name: str) -> None:
    """Another value gives another version."""
    value, besides = EXTRA[name]
    assert version(extra=besides) != version(extra=besides | {name: value})


def test_a_project_s_key_is_not_in_the_version() -> None:
    """Another key gets the same answers."""
    assert version(extra={"api_key": "another"}) == version()


def test_an_extra_param_that_says_what_the_setting_says_changes_nothing() -> None:
    """The value counts, not where it comes from."""
    assert version(extra={"temperature": 0.2}) == version(variables={"TEMPERATURE": "0.2"})


# Attributes of a labeling config: before, after.
SHAPING_ATTRIBUTES = [
    ('value="Sarcastic"', 'value="Sarcastic" alias="s"'),
    ('value="Sarcastic"', 'value="Sarcastic" hint="ironic"'),
    ('choice="multiple"', 'choice="single"'),
    ("<Choices ", '<Header value="Well?"/><Choices '),
    ("</View>", '<Rating name="r" toName="text" llm="true"/></View>'),
    ('name="response"', 'name="answer"'),
    ('name="prompt"', 'name="prompt-2"'),
    ('value="$text"', 'value="$utterance"'),
    ('value="$text"', 'value="$text" valueType="url"'),
    ('name="sentiment"', 'name="irony"'),
    ('"text"', '"utterance"'),
]
OTHER_ATTRIBUTES = [
    ("<View>", '<View className="wide" style="color: red">'),
    ('value="$text"', 'value="$text" granularity="word" showLabels="false"'),
    ('value="$text"', 'value="$text" nameKey="who" textKey="said" savetextresult="yes"'),
    (
        'name="response"',
        'name="response" rows="3" editable="true" maxSubmissions="1"',
    ),
    ('choice="multiple"', 'choice="multiple" layout="inline" showInline="true"'),
    ('value="Sarcastic"', 'value="Sarcastic" hotkey="1" background="red" selected="true"'),
    ("</View>", '<Rating name="r" toName="text"/></View>'),
    ("</View>", "<!-- a comment --></View>"),
    ("</View>", "<Style>.a { color: red; }</Style></View>"),
]


@pytest.mark.parametrize(("before", "after"), SHAPING_ATTRIBUTES)
def test_the_version_changes_with_the_labeling_config(before: str, after: str) -> None:
    """Whatever of it the model is told, or Label Studio is given, is a new question."""
    assert before in CLASSIFICATION
    assert version(CLASSIFICATION.replace(before, after)) != version(CLASSIFICATION)


@pytest.mark.parametrize(("before", "after"), OTHER_ATTRIBUTES)
def test_the_version_stays_with_what_only_the_page_shows(before: str, after: str) -> None:
    """Layout and help for people change no answer."""
    assert before in CLASSIFICATION
    assert version(CLASSIFICATION.replace(before, after)) == version(CLASSIFICATION)


@pytest.mark.parametrize("attribute", ['nameKey="who"', 'textKey="said"', 'valueType="url"'])
def test_the_version_changes_with_how_a_dialogue_is_read(attribute: str) -> None:
    """Names, texts and the address of Paragraphs."""
    assert version(DIALOGUE.replace("<Paragraphs ", f"<Paragraphs {attribute} ")) != version(DIALOGUE)


TEXT = "I love it when my computer crashes"
REPLIES = [
    '{"response": "Because.", "answer": "Well.", "sentiment": ["Sarcastic"], "c": "One", "stars": 3}',
    "Sarcastic",
    "One",
    "c: Two\nstars: 2",
]
LABELS = ["One", "Two", "Sarcastic", "one"]
PARTS: dict[str, st.SearchStrategy[Any]] = {
    "object": st.sampled_from(["text", "utterance"]),
    "value": st.sampled_from(["$text", "$other", "About: $text"]),
    "tag": st.sampled_from(["Text", "HyperText"]),
    "prompt": st.sampled_from(["prompt", "prompt_b"]),
    "response": st.sampled_from(["", "response", "answer"]),
    "choice": st.sampled_from(["single", "multiple"]),
    "labels": st.lists(st.sampled_from(LABELS), min_size=1, max_size=3, unique=True),
    "alias": st.sampled_from(["", "x"]),
    "hint": st.sampled_from(["", "a hint"]),
    "header": st.sampled_from(["", "Which?", "$other"]),
    "stars": st.sampled_from([None, 3, 5]),
    "rows": st.sampled_from(["1", "5"]),
}
parts = st.fixed_dictionaries(PARTS)


def labeling_config(part: dict[str, Any]) -> str:
    """A labeling config of these parts."""
    name = part["object"]
    first = "".join(f' {attribute}="{part[attribute]}"' for attribute in ("alias", "hint") if part[attribute])
    labels = [
        f'<Choice value="{label}"{"" if number else first}/>' for number, label in enumerate(part["labels"])
    ]
    tags = [
        f'<{part["tag"]} name="{name}" value="{part["value"]}"/>',
        f'<TextArea name="{part["prompt"]}" toName="{name}" rows="{part["rows"]}"/>',
        part["response"] and f'<TextArea name="{part["response"]}" toName="{name}"/>',
        part["header"] and f'<Header value="{part["header"]}"/>',
        f'<Choices name="c" toName="{name}" choice="{part["choice"]}">{"".join(labels)}</Choices>',
        part["stars"] and f'<Rating name="stars" toName="{name}" maxRating="{part["stars"]}" llm="true"/>',
    ]
    return f"<View>{''.join(filter(None, tags))}</View>"


def behaviour(shape: Shape) -> Any:
    """All that can be seen of a shape: what is sent, and how replies are read."""
    question: Question = make_question(shape, {"text": TEXT, "other": "<b>One</b>"}, READER, None)
    read = [question.prediction(Completion((Reply(text),))) for text in REPLIES]
    for prediction in read:
        del prediction["model_version"]
        for region in prediction["result"]:
            del region["id"]
    return question.request, json.dumps(read)


SHAPES_OF_DEFAULTS = Shapes(load_settings(OWN | {"DEFAULT_PROMPT": "Which?"}, env_file=None))


@given(parts, parts, st.sets(st.sampled_from(sorted(PARTS)), max_size=2))
@settings(deadline=None, max_examples=300)
def test_whatever_differs_in_what_is_sent_or_read_differs_in_the_version(
    one: dict[str, Any], other: dict[str, Any], changed: set[str]
) -> None:
    """Two labeling configs differ in some parts: if messages, schema or reading do, so do the versions."""
    other = one | {name: other[name] for name in changed}
    shapes = [SHAPES_OF_DEFAULTS.shape(labeling_config(part), {}, None) for part in (one, other)]
    seen = [behaviour(shape) for shape in shapes]
    if seen[0] != seen[1]:
        assert shapes[0].model_version != shapes[1].model_version
    if shapes[0].model_version != shapes[1].model_version:
        assert shapes[0] != shapes[1]


@pytest.mark.parametrize("name", sorted(path.parent.name for path in EXAMPLES.glob("*/label_config.xml")))
def test_a_stored_shape_is_the_same_when_it_is_read_back(name: str) -> None:
    """A batch goes on with what it began with, in any process."""
    xml = (EXAMPLES / name / "label_config.xml").read_text(encoding="utf-8")
    shape = Shapes(load_settings(OWN | {"FILL": "all"}, env_file=None)).shape(xml, {"temperature": 1}, "p")
    read_back = shape_from_json(shape.as_json())
    assert read_back == shape
    assert read_back.model_version == shape.model_version
    assert read_back.as_json() == shape.as_json()


@pytest.mark.parametrize("stored", ["{}", "[]", "1", '{"$": "Shape"}', '{"$": "Unknown", "a": 1}', "no JSON"])
def test_a_shape_of_another_program_says_what_to_do(stored: str) -> None:
    """It cannot be gone on with."""
    with pytest.raises(MissingSettingsError, match="start the batch again"):
        shape_from_json(stored)


def test_the_version_names_the_model() -> None:
    """And eight digits of a hash, the same in every process."""
    assert re.fullmatch(r"gpt-3\.5-turbo-[0-9a-f]{8}", version())
    assert version() == version()


@pytest.mark.parametrize("temperature", ["0", "1"])
def test_the_version_does_not_depend_on_what_was_made_before(temperature: str) -> None:
    """Values that Python takes for equal, such as 1 and True, are told apart: all workers agree."""
    versions = set()
    for before in ([], ["0.7"], ["1", "0"], ["0", "1"]):
        shapes_module._digest.cache_clear()
        for other in before:
            version(variables={"TEMPERATURE": other, "USE_INTERNAL_PROMPT_TEMPLATE": "0"})
        versions.add(version(variables={"TEMPERATURE": temperature}))
    assert len(versions) == 1


def test_access_knows_whether_it_reaches_the_model_of_a_shape() -> None:
    """After the server's address has changed, a batch that has begun cannot go on."""
    shapes = Shapes(load_settings(OWN, env_file=None))
    shape = shapes.shape(CLASSIFICATION, {}, "p")
    endpoint = shapes.parameters({}).endpoint
    assert Access(endpoint).reaches(shape)
    assert Access(replace(endpoint, api_key="another")).reaches(shape)
    assert not Access(replace(endpoint, base_url="https://elsewhere/v1")).reaches(shape)
    assert not Access(Endpoint("ollama")).reaches(shape)


def test_a_changed_text_key_is_a_new_question(make_settings: MakeSettings) -> None:
    """Answers about another text, or for an object that has another name, have another version."""
    config = DIALOGUE.replace("<Paragraphs ", '<Paragraphs textKey="{key}" ').replace('"chat"', '"{name}"')
    task = {"chat": [{"author": "Ann", "text": "one", "utterance": "two"}]}
    shapes = Shapes(make_settings())
    made = [
        shapes.shape(config.format(key=key, name=name), {}, "p")
        for key, name in (("text", "chat"), ("utterance", "chat"), ("utterance", "talk"))
    ]
    assert len({shape.model_version for shape in made}) == 3
    questions = [make_question(shape, task, READER, None) for shape in made]
    assert [question.text for question in questions] == ["Ann: one", "Ann: two", "Ann: two"]
    regions = questions[2].prediction(Completion((Reply("r"),)))["result"]
    assert {region["to_name"] for region in regions} == {"talk"}


def test_a_task_without_the_field_is_an_error_before_anything_is_asked() -> None:
    """The question cannot be made."""
    shape = SHAPES_OF_DEFAULTS.shape(CLASSIFICATION, {}, None)
    with pytest.raises(InputError, match="no field text"):
        make_question(shape, {"other": 1}, READER, None)
