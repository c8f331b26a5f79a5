"""Plans: how replies are asked for, what is added to the prompt, and what shapes the version."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_backend.asking.plan import Plan, make_plan
from llm_backend.labeling.json_spans import find_object
from llm_backend.operations.metrics import Metrics
from llm_backend.providers import Providers
from llm_backend.reading import FileReader
from llm_backend.settings import Settings, load_settings
from llm_backend.values import Completion, CompletionRequest, Json, Reply
from tests.conftest import CLASSIFICATION, MakeApp

READER = FileReader(load_settings({}, env_file=None))
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
MakeSettings = Callable[..., Settings]
ONLY_TEXT = (
    '<View><Text name="text" value="$text"/><TextArea name="prompt" toName="text"/>'
    '<TextArea name="response" toName="text"/>{}</View>'
)
RATED = ONLY_TEXT.format('<Header value="How good?"/><Rating name="stars" toName="text" llm="true"/>')
PAIR = ONLY_TEXT.format(
    '<Paragraphs name="chat" value="$chat"/><Pairwise name="better" toName="text,chat" llm="true"/>'
)
DYNAMIC = ONLY_TEXT.format('<Choices name="c" toName="text" value="$options"/>')
DATA: Json = {"text": "A text", "options": [{"value": "One", "alias": "1"}, {"value": "Two"}],
              "chat": [{"author": "Ann", "text": "Hi"}]}  # fmt: skip


@pytest.fixture
def plan(make_settings: MakeSettings) -> Callable[..., Plan]:
    """Makes the plan of a labeling config; settings as keyword arguments."""

    def make(config: str, **variables: str) -> Plan:
        return make_plan(make_settings(**variables), config, {}, "Do {it}")

    return make


@pytest.mark.parametrize(
    ("config", "response_format", "form"),
    [
        (CLASSIFICATION, "auto", "json"),
        (CLASSIFICATION, "json", "json"),
        (CLASSIFICATION, "text", "plain"),
        (ONLY_TEXT, "auto", "plain"),
        (ONLY_TEXT, "json", "json"),
        (ONLY_TEXT, "text", "plain"),
        (RATED, "auto", "json"),
        (RATED, "text", "lines"),
    ],
)
def test_how_replies_are_asked_for(
    plan: Callable[..., Plan], config: str, response_format: str, form: str
) -> None:
    """A schema where there is more to fill than a text; instructions only where a reply must have a form."""
    request = plan(config, RESPONSE_FORMAT=response_format).completion_request(DATA, READER)
    assert (request.response_format is not None) == (form == "json")
    assert len(request.messages) == (1 if form == "plain" else 2)
    assert request.logprobs == (form == "json" and config is not ONLY_TEXT)


@pytest.mark.parametrize("response_format", ["auto", "text"])
def test_the_prompt_reaches_the_model_word_for_word(plan: Callable[..., Plan], response_format: str) -> None:
    """What is added stands in a message of its own, before it."""
    for config in (CLASSIFICATION, RATED, ONLY_TEXT):
        messages = plan(config, RESPONSE_FORMAT=response_format).completion_request(DATA, READER).messages
        assert messages[-1].content == "Source Text: A text\n\nTask Directive: Do {it}"
        assert all(message.role == "system" for message in messages[:-1])


def test_headers_are_shown(plan: Callable[..., Plan]) -> None:
    """The question that stands above a control is asked."""
    assert '"stars" (How good?)' in plan(RATED).completion_request(DATA, READER).messages[0].content


def test_both_sides_of_a_comparison_are_shown(plan: Callable[..., Plan]) -> None:
    """As each object tag reads its part of the task."""
    added = plan(PAIR).completion_request(DATA, READER).messages[0].content
    assert "left: A text" in added
    assert "right: Ann: Hi" in added


def test_labels_of_the_task_are_asked_for_and_stored(plan: Callable[..., Plan]) -> None:
    """They stand in the schema and in `{labels}`, and their alias in the prediction."""
    dynamic = plan(DYNAMIC, PROMPT_TEMPLATE="{labels} {prompt}")
    request = dynamic.completion_request(DATA, READER)
    assert json.dumps(request.response_format).count('"One"') == 1
    assert request.messages[-1].content == "['One', 'Two'] Do {it}"
    prediction = dynamic.prediction(DATA, Completion((Reply('{"response": "", "c": "One"}'),)), READER)
    assert prediction["result"][-1]["value"] == {"choices": ["1"]}


def test_no_logprobs_where_replies_are_counted(plan: Callable[..., Plan]) -> None:
    """With several replies the share that agrees is the score."""
    assert not plan(CLASSIFICATION, NUM_RESPONSES="3").completion_request(DATA, READER).logprobs


def test_a_request_can_be_written_as_json(plan: Callable[..., Plan]) -> None:
    """Stored completions are found again by it."""
    request = plan(CLASSIFICATION).completion_request(DATA, READER)
    written = json.loads(json.dumps(dataclasses.asdict(request)))
    assert written["response_format"] == request.response_format
    assert set(written) == {field.name for field in dataclasses.fields(CompletionRequest)}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('value="Sarcastic"', 'value="Sarcastic" alias="s"'),
        ('value="Sarcastic"', 'value="Sarcastic" hint="ironic"'),
        ('choice="multiple"', 'choice="single"'),
        ("<Choices ", '<Header value="Well?"/><Choices '),
        ("</View>", '<Rating name="r" toName="text" llm="true"/></View>'),
        ('name="response"', 'name="answer"'),
    ],
)
def test_the_version_changes_with_the_controls(plan: Callable[..., Plan], before: str, after: str) -> None:
    """Whatever of a control the model is told, or Label Studio is given, is a new question."""
    changed = CLASSIFICATION.replace(before, after)
    assert changed != CLASSIFICATION
    assert plan(changed).model_version != plan(CLASSIFICATION).model_version


def test_the_version_changes_with_the_form(plan: Callable[..., Plan]) -> None:
    """RESPONSE_FORMAT and FILL count where they change what is asked."""
    rating = CLASSIFICATION.replace("</View>", '<Rating name="r" toName="text"/></View>')
    assert plan(CLASSIFICATION).model_version != plan(CLASSIFICATION, RESPONSE_FORMAT="text").model_version
    assert plan(rating).model_version == plan(CLASSIFICATION).model_version
    assert plan(rating, FILL="all").model_version != plan(rating).model_version


def test_llama_cpp_takes_the_schema_of_every_kind_of_control(make_settings: MakeSettings) -> None:
    """Its grammar knows all keywords that are used: the reply begins as the schema says."""
    pytest.importorskip("xllamacpp")
    xml = (EXAMPLES / "every-control" / "label_config.xml").read_text()
    [data] = json.loads((EXAMPLES / "every-control" / "tasks.json").read_text())
    settings = make_settings(OPENAI_PROVIDER="embedded", TEMPERATURE="0", FILL="all", LLM_TIMEOUT="50")
    made = make_plan(settings, xml, {}, "Answer in three words.")
    providers = Providers(Metrics(), timeout=50, max_retries=0)
    try:
        completion = providers.complete(made.parameters.endpoint, made.completion_request(data, READER))
    finally:
        providers.close()
    found = find_object(completion.replies[0].text)
    assert found is not None
    assert list(found.members) == [control.name for control in made.config.controls][: len(found.members)]
    assert completion.replies[0].token_logprobs
    prediction = made.prediction(data, completion, READER)
    assert made.config.interface.validate_prediction(prediction, return_errors=True) == []


def test_what_is_left_alone_is_in_the_log_at_setup(
    make_backend: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """With its name and the reason; what is not asked for because a person fills it is no news."""
    extra = '<Ranker name="rank" toName="text"/><Rating name="stars" toName="text"/></View>'
    assert make_backend().setup(CLASSIFICATION.replace("</View>", extra)).status_code == 200
    [said] = [record.getMessage() for record in caplog.records if "Left alone" in record.getMessage()]
    assert "Ranker rank: this kind of control is not supported" in said
