"""Questions: how replies are asked for, what is added to the prompt, and what a reply gives."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llm_backend.asking.question import Question, make_question
from llm_backend.asking.shape import Shapes
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
def ask(make_settings: MakeSettings) -> Callable[..., Question]:
    """Makes the question about a task of a project with a labeling config; settings as keyword arguments."""

    def make(config: str, **variables: str) -> Question:
        shape = Shapes(make_settings(**variables)).shape(config, {}, "Do {it}")
        return make_question(shape, DATA, READER, None)

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
    ask: Callable[..., Question], config: str, response_format: str, form: str
) -> None:
    """A schema where there is more to fill than a text; instructions only where a reply must have a form."""
    request = ask(config, RESPONSE_FORMAT=response_format).request
    assert (request.response_format is not None) == (form == "json")
    assert len(request.messages) == (1 if form == "plain" else 2)
    assert request.logprobs == (form == "json" and config is not ONLY_TEXT)


@pytest.mark.parametrize("response_format", ["auto", "text"])
def test_the_prompt_reaches_the_model_word_for_word(
    ask: Callable[..., Question], response_format: str
) -> None:
    """What is added stands in a message of its own, before it."""
    for config in (CLASSIFICATION, RATED, ONLY_TEXT):
        messages = ask(config, RESPONSE_FORMAT=response_format).request.messages
        assert messages[-1].content == "Source Text: A text\n\nTask Directive: Do {it}"
        assert all(message.role == "system" for message in messages[:-1])


def test_headers_are_shown(ask: Callable[..., Question]) -> None:
    """The question that stands above a control is asked."""
    assert '"stars" (How good?)' in ask(RATED).request.messages[0].content


def test_both_sides_of_a_comparison_are_shown(ask: Callable[..., Question]) -> None:
    """As each object tag reads its part of the task."""
    added = ask(PAIR).request.messages[0].content
    assert "left: A text" in added
    assert "right: Ann: Hi" in added


def test_labels_of_the_task_are_asked_for_and_stored(ask: Callable[..., Question]) -> None:
    """They stand in the schema and in `{labels}`, and their alias in the prediction."""
    dynamic = ask(DYNAMIC, PROMPT_TEMPLATE="{labels} {prompt}")
    request = dynamic.request
    assert json.dumps(request.response_format).count('"One"') == 1
    assert request.messages[-1].content == "['One', 'Two'] Do {it}"
    prediction = dynamic.prediction(Completion((Reply('{"response": "", "c": "One"}'),)))
    assert prediction["result"][-1]["value"] == {"choices": ["1"]}


def test_no_logprobs_where_replies_are_counted(ask: Callable[..., Question]) -> None:
    """With several replies the share that agrees is the score."""
    assert not ask(CLASSIFICATION, NUM_RESPONSES="3").request.logprobs


def test_a_request_can_be_written_as_json(ask: Callable[..., Question]) -> None:
    """Stored completions are found again by it."""
    request = ask(CLASSIFICATION).request
    written = json.loads(json.dumps(dataclasses.asdict(request)))
    assert written["response_format"] == request.response_format
    assert set(written) == {field.name for field in dataclasses.fields(CompletionRequest)}


def test_llama_cpp_takes_the_schema_of_every_kind_of_control(make_settings: MakeSettings) -> None:
    """Its grammar knows all keywords that are used: the reply begins as the schema says."""
    pytest.importorskip("xllamacpp")
    xml = (EXAMPLES / "every-control" / "label_config.xml").read_text()
    [data] = json.loads((EXAMPLES / "every-control" / "tasks.json").read_text())
    settings = make_settings(OPENAI_PROVIDER="embedded", TEMPERATURE="0", FILL="all", LLM_TIMEOUT="50")
    shapes = Shapes(settings)
    question = make_question(shapes.shape(xml, {}, "Answer in three words."), data, READER, None)
    providers = Providers(Metrics(), timeout=50, max_retries=0)
    try:
        completion = providers.complete(shapes.parameters({}).endpoint, question.request)
    finally:
        providers.close()
    found = find_object(completion.replies[0].text)
    assert found is not None
    assert list(found.members) == [control.name for control in question.controls][: len(found.members)]
    assert completion.replies[0].token_logprobs
    prediction = question.prediction(completion)
    assert shapes.config(xml).interface.validate_prediction(prediction, return_errors=True) == []


def test_what_is_left_alone_is_in_the_log_at_setup(
    make_backend: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """With its name and the reason; what is not asked for because a person fills it is no news."""
    extra = '<Ranker name="rank" toName="text"/><Rating name="stars" toName="text"/></View>'
    assert make_backend().setup(CLASSIFICATION.replace("</View>", extra)).status_code == 200
    [said] = [record.getMessage() for record in caplog.records if "Left alone" in record.getMessage()]
    assert "Ranker rank: this kind of control is not supported" in said
