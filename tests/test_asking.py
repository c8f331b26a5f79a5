"""From a task to a prediction, whoever asks: read once, paid through one door, and kept to be learnt from."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from llm_backend.errors import InputError, UnusableReplyError
from llm_backend.labeling.source import Source
from llm_backend.reading import TAGS, ObjectTag, Reading, TaskFiles, register
from llm_backend.settings import Settings
from llm_backend.storage import Ledger
from llm_backend.values import CompletionRequest, Json, Message
from testkit.pictures import png
from testkit.stub_llm import Answer, Call, StubLLM, completion, failure
from testkit.waiting import eventually
from tests.conftest import CLASSIFICATION, PROJECT, TASK, Backend, MakeApp

BOXES = '<TextArea name="prompt" toName="{0}"/><TextArea name="response" toName="{0}"/>'
COMPARISON = (
    '<View><Text name="one" value="$one"/><Text name="two" value="$two"/>'
    f'{BOXES.format("one")}<Pairwise name="better" toName="one,two" llm="true"/></View>'
)
PICTURE = f'<View><Image name="image" value="$image"/>{BOXES.format("image")}</View>'


class Counting(ObjectTag[Any]):
    """A tag that counts how often each object is read."""

    def __init__(self, tag: ObjectTag[Any], reads: list[str]) -> None:
        self._tag = tag
        self._reads = reads
        self.name = tag.name  # type: ignore[misc]
        self.is_text = tag.is_text  # type: ignore[misc]
        self.options_type = tag.options_type  # type: ignore[misc]
        self.attributes = tag.attributes  # type: ignore[misc]

    def options(self, settings: Settings) -> Any:
        """Those of the tag."""
        return self._tag.options(settings)

    def read(self, source: Source, data: Mapping[str, Any], options: Any, files: TaskFiles) -> Reading:
        """Counts, and reads."""
        self._reads.append(source.name)
        return self._tag.read(source, data, options, files)

    def show(self, source: Source, data: Mapping[str, Any], files: TaskFiles) -> str:
        """Counts, and shows."""
        self._reads.append(source.name)
        return self._tag.show(source, data, files)


@pytest.fixture
def reads() -> Iterator[list[str]]:
    """The names of the objects in the order in which they are read."""
    tags, names = dict(TAGS), list[str]()
    for tag in tags.values():
        register(Counting(tag, names))
    yield names
    TAGS.update(tags)


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is fetched or unpacked, past the cache, in order."""
    values: list[str] = []
    usual = TaskFiles._opened

    def counted(self: TaskFiles, value: str, *args: Any, **kwargs: Any) -> Any:
        values.append(value[:20])
        return usual(self, value, *args, **kwargs)

    monkeypatch.setattr(TaskFiles, "_opened", counted)
    return values


def test_an_interactive_request_reads_once(backend: Backend, reads: list[str]) -> None:
    """For what is sent and for what is understood of the reply."""
    backend.predict(prompt="p")
    assert reads == ["text"]


def test_a_batch_reads_each_task_once(make_backend: MakeApp, reads: list[str]) -> None:
    """Quotes of labels are looked up in what was read."""
    config = CLASSIFICATION.replace(
        "</View>", '<Labels name="l" toName="text" llm="true"><Label value="A"/></Labels></View>'
    )
    tasks: list[Json] = [{"id": n, "data": {"text": f"text {n}"}} for n in range(1, 6)]
    make_backend(DEFAULT_PROMPT="p").predict(tasks, config=config)
    assert reads == ["text"] * 5


def test_a_comparison_reads_both_sides_once(make_backend: MakeApp, reads: list[str]) -> None:
    """Also where the prompt points to one of them."""
    task: Json = {"id": 1, "data": {"one": "first", "two": "second"}}
    make_backend(DEFAULT_PROMPT="p").predict([task], config=COMPARISON)
    assert sorted(reads) == ["one", "two"]


@pytest.mark.parametrize("refused", [False, True])
def test_a_picture_is_read_once(
    make_backend: MakeApp,
    stub: StubLLM,
    reads: list[str],
    fetched: list[str],
    refused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the model takes no pictures, OCR reads what is there already."""
    monkeypatch.setattr("llm_backend.reading.files.read_text", lambda *_: "the text")

    def answer(call: Call) -> Answer:
        has_picture = not isinstance(call.body["messages"][-1]["content"], str)
        no_pictures = failure(400, "This model does not support image input")
        return no_pictures if has_picture and refused else completion("ok")

    stub.answer = answer
    task: Json = {"id": 1, "data": {"image": f"data:image/png;base64,{base64.b64encode(png()).decode()}"}}
    answered = make_backend(DEFAULT_PROMPT="p").predict([task], config=PICTURE)
    assert answered.status_code == 200, answered.json
    assert reads == ["image"]
    assert len(fetched) == 1
    assert len(stub.calls) == 1 + refused


class Shout(ObjectTag[None]):
    """A toy tag: a text in capital letters."""

    name = "Shout"

    def options(self, settings: Settings) -> None:
        """No setting changes it."""

    def read(self, source: Source, data: Mapping[str, Any], options: None, files: TaskFiles) -> Reading:
        """The field of the tag's own name, in capital letters."""
        if source.name not in data:
            raise InputError("nothing to shout")
        return Reading(str(data[source.name]).upper(), data)

    def show(self, source: Source, data: Mapping[str, Any], files: TaskFiles) -> str:
        """The same."""
        return self.read(source, data, None, files).text


def test_a_toy_object_tag_goes_all_the_way(
    make_backend: MakeApp, stub: StubLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class and one registration: connected, read, sent, and filled."""
    monkeypatch.setitem(TAGS, Shout.name, Shout())
    config = f'<View><Shout name="loud" value="$loud"/>{BOXES.format("loud")}</View>'
    backend = make_backend()
    assert backend.setup(config).status_code == 200
    answer = backend.predict([{"id": 1, "data": {"loud": "hear me"}}], config=config, prompt="Repeat")
    assert answer.status_code == 200
    assert stub.prompts == ["Source Text: HEAR ME\n\nTask Directive: Repeat"]
    assert {region["to_name"] for region in answer.json["results"][0]["result"]} == {"loud"}


def test_every_paid_call_leaves_a_row(make_backend: MakeApp, stub: StubLLM) -> None:
    """With who asked, what for, of whom, how many tokens; what comes from the cache leaves none."""
    backend = make_backend()
    ledger = Ledger(backend.services.database)
    backend.predict(prompt="p")
    eventually(ledger.payments)
    backend.predict([TASK])  # opened, and answered from the cache
    backend.predict([{"id": 2, "data": {"text": "opened"}}])
    backend.predict([{"id": n, "data": {"text": f"text {n}"}} for n in (3, 4)])
    eventually(lambda: len(ledger.payments()) == 4)
    rows = ledger.payments(project=PROJECT)
    said = sorted((row.purpose, row.task_id, row.outcome) for row in rows)
    assert said == [("batch", 3, "ok"), ("batch", 4, "ok"), ("interactive", 1, "ok"), ("opened", 2, "ok")]
    assert len(stub.calls) == 4
    for row in rows:
        assert (row.provider, row.model) == ("openai", "gpt-3.5-turbo")
        assert (row.tokens_in, row.tokens_out, row.tokens_cached, row.cost) == (11, 5, 0, None)
        assert row.model_version == backend.setup().json["model_version"]
        assert len(row.keys) == 1


def test_a_paid_answer_that_cannot_be_used_leaves_a_row(backend: Backend, stub: StubLLM) -> None:
    """An empty reply was paid for; a refused request was not."""
    ledger = Ledger(backend.services.database)
    stub.says(completion("", finish_reason="stop"), failure(401))
    assert backend.predict(prompt="p").status_code == 502
    assert backend.predict(prompt="q").status_code == 502
    eventually(ledger.payments)
    [row] = ledger.payments()
    assert (row.outcome, row.tokens_in, row.keys) == ("unusable_reply", 11, ())


@pytest.mark.parametrize("count", [1, 3])
def test_what_was_proposed_is_kept(make_backend: MakeApp, stub: StubLLM, count: int) -> None:
    """Answers to Shift+Enter, which Label Studio never stores as predictions, and those of batches."""
    backend = make_backend()
    ledger = Ledger(backend.services.database)
    stub.says('{"response": "Because.", "sentiment": ["Sarcastic"]}')
    backend.predict(prompt="Is it?")
    backend.predict([{"id": n, "data": {"text": f"text {n}"}} for n in range(2, count + 2)])
    eventually(lambda: len(ledger.proposals(PROJECT)) == count + 1)
    rows = ledger.proposals(PROJECT)
    assert {row.purpose for row in rows} == {"interactive", "batch" if count > 1 else "opened"}
    for row in rows:
        assert row.prompt == "Is it?"
        assert row.proposed == {"response": ["Because."], "sentiment": ["Sarcastic"]}
        assert row.model_version == backend.setup().json["model_version"]
    [first] = ledger.proposals(PROJECT, task_id=1)
    assert first.purpose == "interactive"


def test_the_check_leaves_a_row(backend: Backend, stub: StubLLM) -> None:
    """It is paid for, too."""
    backend.setup()
    services = backend.services
    request = CompletionRequest("m", (Message("user", "?"),), 0.0)
    services.completions.check(request, services.parameters.endpoint, in_ledger=True)
    ledger = Ledger(services.database)
    eventually(ledger.payments)
    assert [(row.purpose, row.project, row.model) for row in ledger.payments()] == [("check", "", "m")]
    stub.says(completion(""))
    with pytest.raises(UnusableReplyError, match="empty reply"):
        services.completions.check(request, services.parameters.endpoint, in_ledger=True)
    eventually(lambda: len(ledger.payments()) == 2)


def test_a_shared_answer_is_counted_once(make_backend: MakeApp, stub: StubLLM) -> None:
    """The same task by Shift+Enter twice within three seconds is one row."""
    backend = make_backend()
    ledger = Ledger(backend.services.database)
    for _ in range(3):
        assert backend.predict(prompt="p").status_code == 200
        eventually(ledger.payments)
    assert len(ledger.payments()) == len(stub.calls) == 1
