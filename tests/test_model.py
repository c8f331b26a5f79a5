"""The main job, over HTTP against the stub: which prompt is used, what is sent, what comes back."""

import json
from pathlib import Path
from typing import Any

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface

from llm_backend.errors import LabelingConfigError
from model import InteractiveLLM
from testkit.stub_llm import Answer, StubLLM, completion, failure
from tests.conftest import CLASSIFICATION, PROJECT, TASK, Backend, MakeApp

EXAMPLES = Path(__file__).parent.parent / "examples"
CHAT = """
<View>
  <Paragraphs name="chat" value="$dialogue" nameKey="role" textKey="content"/>
  <TextArea name="prompt" toName="chat"/><TextArea name="response" toName="chat"/>
</View>
"""
CHAT_TASK = {
    "id": 2,
    "data": {"dialogue": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
}


def webhook_body(prompt: str, **changes: Any) -> dict[str, Any]:
    """A submitted annotation as Label Studio reports it, of the project that the other requests name."""
    region = {"from_name": "prompt", "type": "textarea", "value": {"text": [prompt]}}
    return {
        "action": "ANNOTATION_CREATED",
        "annotation": {"result": [region], "was_cancelled": False},
        "task": TASK,
        "project": {"id": 7, "created_at": "2026-11-23T13:27:53.123456Z"},
    } | changes


def values(prediction: dict[str, Any]) -> dict[str, Any]:
    """What each control of the prediction holds."""
    return {region["from_name"]: next(iter(region["value"].values())) for region in prediction["result"]}


def test_a_prompt_fills_the_response_and_ticks_the_label(backend: Backend, stub: StubLLM) -> None:
    """The main job; `results[0]` is an object, its regions are valid, the prompt is among them."""
    stub.says("**Not sarcastic.**")
    answer = backend.predict(prompt="Is it sarcastic?")
    assert answer.status_code == 200
    [prediction] = answer.json["results"]
    assert values(prediction) == {
        "prompt": ["Is it sarcastic?"],
        "response": ["**Not sarcastic.**"],
        "sentiment": ["Not Sarcastic"],
    }
    assert "score" not in prediction
    assert LabelInterface(CLASSIFICATION).validate_prediction(prediction)
    assert stub.prompts == [f"Source Text: {TASK['data']['text']}\n\nTask Directive: Is it sarcastic?"]  # type: ignore[index]


def test_a_batch_has_one_entry_per_task_in_order(backend: Backend, stub: StubLLM) -> None:
    """Each task gets the answer to its own text."""
    stub.answer = lambda call: completion(call.body["messages"][-1]["content"].split("\n")[0])
    backend.predict(prompt="Echo")
    tasks = [{"id": i, "data": {"text": f"text {i}"}} for i in range(50)]
    results = backend.predict(tasks).json["results"]
    assert [values(result)["response"] for result in results] == [
        [f"Source Text: text {i}"] for i in range(50)
    ]


def test_a_submit_asks_for_nothing(backend: Backend, stub: StubLLM) -> None:
    """Label Studio then sends an empty context, and would overwrite what a person has corrected."""
    backend.predict(prompt="A")
    body = {
        "tasks": [TASK],
        "project": PROJECT,
        "label_config": CLASSIFICATION,
        "params": {"context": {"result": []}},
    }
    [prediction] = backend.client.post("/predict", json=body).json["results"]
    assert prediction["result"] == []
    assert len(stub.calls) == 1


def test_a_reply_without_a_label_clears_the_ticked_one(backend: Backend, stub: StubLLM) -> None:
    """Label Studio replaces only what comes back."""
    stub.says("I do not know.")
    context = {
        "result": [
            {"from_name": "prompt", "value": {"text": ["Again"]}},
            {"from_name": "sentiment", "value": {"choices": ["Sarcastic"]}},
        ]
    }
    body = {
        "tasks": [TASK],
        "project": PROJECT,
        "label_config": CLASSIFICATION,
        "params": {"context": context},
    }
    [prediction] = backend.client.post("/predict", json=body).json["results"]
    assert values(prediction)["sentiment"] == []
    assert LabelInterface(CLASSIFICATION).validate_prediction(prediction)


def test_model_version_is_the_same_in_setup_and_predictions(backend: Backend) -> None:
    """Else Label Studio asks again for what it has."""
    before = backend.setup().json["model_version"]
    [prediction] = backend.predict(prompt="A").json["results"]
    after = backend.setup().json["model_version"]
    assert prediction["model_version"] == after == backend.predict([TASK]).json["results"][0]["model_version"]
    assert after != before
    assert after.startswith("gpt-3.5-turbo-")


@pytest.mark.parametrize(
    "variables",
    [
        {"TEMPERATURE": "0.1"},
        {"OPENAI_MODEL": "gpt-4o"},
        {"NUM_RESPONSES": "2"},
        {"PROMPT_TEMPLATE": "{prompt} {text}"},
        {"USE_INTERNAL_PROMPT_TEMPLATE": "0"},
        {"DEFAULT_PROMPT": "Other"},
        {"OPENAI_BASE_URL": "https://example.com/v1"},
        {"OPENAI_PROVIDER": "ollama"},
    ],
)
def test_model_version_changes_with_whatever_shapes_the_answer(
    make_backend: MakeApp, variables: dict[str, str]
) -> None:
    """Else Label Studio silently never asks again."""
    version = make_backend(DEFAULT_PROMPT="One").setup().json["model_version"]
    assert make_backend(DEFAULT_PROMPT="One").setup().json["model_version"] == version
    assert make_backend(**({"DEFAULT_PROMPT": "One"} | variables)).setup().json["model_version"] != version


def test_model_version_changes_with_the_labels(backend: Backend) -> None:
    """A label more is a new question."""
    more = CLASSIFICATION.replace("</Choices>", '<Choice value="Unsure"/></Choices>')
    assert backend.setup().json["model_version"] != backend.setup(more).json["model_version"]


def test_the_prompt_comes_from_context_then_project_then_default(make_backend: MakeApp) -> None:
    """The order of the sources, also after a restart."""
    backend = make_backend(DEFAULT_PROMPT="default")
    answers = [
        backend.predict(),
        backend.predict(prompt="typed"),
        backend.predict(),
        make_backend(DEFAULT_PROMPT="default").predict(),
        backend.predict(project="8.1795440473"),
    ]
    prompts = [values(answer.json["results"][0])["prompt"] for answer in answers]
    assert prompts == [["default"], ["typed"], ["typed"], ["typed"], ["default"]]


def test_without_any_prompt_nothing_is_asked(backend: Backend, stub: StubLLM) -> None:
    """One empty list per task; an object with an empty result for a person."""
    assert backend.predict([TASK, TASK]).json == {"results": [[], []]}
    [interactive] = backend.predict(prompt="  ").json["results"]
    assert interactive["result"] == []
    assert not stub.calls


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "\u26a0 OpenAI refused the API key (401): check OPENAI_API_KEY"),
        ({"OPENAI_API_KEY": ""}, "\u26a0 The openai provider needs OPENAI_API_KEY to be set"),
    ],
)
def test_a_person_sees_why_there_is_no_answer(
    make_backend: MakeApp, stub: StubLLM, variables: dict[str, str], says: str
) -> None:
    """In the response box, with the prompt still there, no label, and nothing remembered."""
    stub.says(failure(401, "wrong key"))
    backend = make_backend(SHOW_ERRORS="1", **variables)
    answer = backend.predict(prompt="bad")
    assert answer.status_code == 200
    assert values(answer.json["results"][0]) == {"prompt": ["bad"], "response": [says]}
    assert LabelInterface(CLASSIFICATION).validate_prediction(answer.json["results"][0])
    assert backend.predict([TASK]).json == {"results": [[]]}


def test_a_person_sees_that_the_database_is_gone(make_backend: MakeApp, tmp_path: Path) -> None:
    """What fails before the LLM is asked is shown as well, and the prompt stays in its box."""
    folder = tmp_path / "file"
    folder.write_text("where a folder should be")
    answer = make_backend(SHOW_ERRORS="1", MODEL_DIR=str(folder)).predict(prompt="any")
    shown = values(answer.json["results"][0])
    assert shown["prompt"] == ["any"]
    assert shown["response"][0].startswith("\u26a0 The database cannot be used")


def test_an_answer_is_given_even_when_its_prompt_cannot_be_remembered(
    make_backend: MakeApp, stub: StubLLM
) -> None:
    """It is paid for; that batches go on with the earlier prompt is the smaller loss."""
    backend = make_backend()
    backend.predict(prompt="first")
    with backend.services.database.writing() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full_disk BEFORE UPDATE ON projects BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    answer = backend.predict(prompt="second")
    assert values(answer.json["results"][0])["response"] == ["Sarcastic"]


def test_without_a_response_box_the_error_is_an_http_error(make_backend: MakeApp, stub: StubLLM) -> None:
    """There is nowhere else to show it."""
    stub.says(failure(401, "wrong key"))
    config = CLASSIFICATION.replace('<TextArea name="response" toName="text"/>', "")
    answer = make_backend(SHOW_ERRORS="1").predict(prompt="bad", config=config)
    assert answer.status == "502 OpenAI refused the API key (401): check OPENAI_API_KEY"


def test_a_prompt_that_failed_is_not_remembered(backend: Backend, stub: StubLLM) -> None:
    """Only what worked may be applied to thousands of tasks."""
    stub.says(failure(400, "no"))
    assert backend.predict(prompt="bad").status_code == 502
    assert backend.predict([TASK]).json == {"results": [[]]}


def test_remember_prompt_submitted_leaves_out_what_was_only_tried(make_backend: MakeApp) -> None:
    """Teams in which everyone tries things."""
    backend = make_backend(REMEMBER_PROMPT="submitted")
    backend.setup()
    backend.predict(prompt="tried")
    assert backend.predict([TASK]).json == {"results": [[]]}
    backend.client.post("/webhook", json=webhook_body("submitted"))
    assert values(backend.predict([TASK]).json["results"][0])["prompt"] == ["submitted"]


def test_the_later_of_used_and_submitted_counts(backend: Backend) -> None:
    """Whichever came last is the project's prompt."""
    backend.setup()
    backend.client.post("/webhook", json=webhook_body("one"))
    backend.predict(prompt="two")
    assert values(backend.predict([TASK]).json["results"][0])["prompt"] == ["two"]
    backend.client.post("/webhook", json=webhook_body("three", action="ANNOTATION_UPDATED"))
    assert values(backend.predict([TASK]).json["results"][0])["prompt"] == ["three"]


@pytest.mark.parametrize(
    "body",
    [
        webhook_body("evil", action="ANNOTATIONS_DELETED"),
        webhook_body("evil", action="START_TRAINING"),
        webhook_body("evil", project={"id": 8, "created_at": "2026-11-23T13:27:53Z"}),
        webhook_body("evil", project={"id": 7, "created_at": "2026-11-23T13:27:59Z"}),
        webhook_body("evil", project={"id": 7, "created_at": "yesterday"}),
        webhook_body("evil", project=None),
        webhook_body("evil", annotation={"result": [], "was_cancelled": False}),
        webhook_body("evil", annotation=None),
        webhook_body("", annotation={"result": "x"}),
    ],
)  # fmt: skip
def test_other_webhooks_change_nothing(backend: Backend, body: dict[str, Any]) -> None:
    """Other events, unknown projects and odd payloads are answered and ignored."""
    backend.setup()
    assert backend.client.post("/webhook", json=body).status_code == 201
    assert backend.predict([TASK]).json == {"results": [[]]}


def test_a_skipped_annotation_is_not_submitted(backend: Backend) -> None:
    """Its prompt is not remembered."""
    backend.setup()
    body = webhook_body("skipped")
    body["annotation"]["was_cancelled"] = True
    backend.client.post("/webhook", json=body)
    assert backend.predict([TASK]).json == {"results": [[]]}


def test_extra_params_override_per_project(backend: Backend, stub: StubLLM) -> None:
    """Of this project only, and an emptied box overrides nothing any more."""
    assert backend.setup(extra_params={"model": "gpt-4o", "temperature": 0}).status_code == 200
    backend.predict(prompt="A")
    backend.predict(prompt="B", project="8.1795440473")
    backend.setup(extra_params=None)
    backend.predict(prompt="C")
    assert [(call.body["model"], call.body["temperature"]) for call in stub.calls] == [
        ("gpt-4o", 0.0),
        ("gpt-3.5-turbo", 0.7),
        ("gpt-3.5-turbo", 0.7),
    ]


def test_a_changed_default_prompt_in_extra_params_replaces_the_used_one(backend: Backend) -> None:
    """And an unchanged one, which comes before every batch, does not."""
    backend.setup(extra_params={"default_prompt": "first"})
    backend.predict(prompt="typed")
    backend.setup(extra_params='{"default_prompt": "first"}')
    assert values(backend.predict([TASK]).json["results"][0])["prompt"] == ["typed"]
    backend.setup(extra_params={"default_prompt": "second"})
    assert values(backend.predict([TASK]).json["results"][0])["prompt"] == ["second"]


def test_refused_extra_params_change_nothing(backend: Backend, stub: StubLLM) -> None:
    """What `/setup` refuses is not kept."""
    assert backend.setup(extra_params={"model": "gpt-4o"}).status_code == 200
    assert backend.setup(extra_params={"model": "gpt-5", "temperature": 9}).status_code == 422
    backend.predict(prompt="A")
    assert stub.calls[0].body["model"] == "gpt-4o"


def test_the_key_of_the_environment_stays_at_its_address(backend: Backend, stub: StubLLM) -> None:
    """Another address must bring a key, and a private one must be allowed."""
    refused = backend.setup(extra_params={"base_url": "https://evil.example/v1"})
    assert refused.status_code == 422
    assert "api_key" in refused.status
    private = backend.setup(extra_params={"base_url": "http://127.0.0.1:1/v1", "api_key": "mine"})
    assert private.status_code == 422
    assert "ALLOWED_HOSTS" in private.status


def test_a_template_of_ones_own(make_backend: MakeApp, stub: StubLLM) -> None:
    """USE_INTERNAL_PROMPT_TEMPLATE=0: the prompt is the template, with the task's fields and {labels}."""
    backend = make_backend(USE_INTERNAL_PROMPT_TEMPLATE="0")
    task = {"id": 1, "data": {"text": "t {labels}", "instruction": "Do"}}
    backend.predict([task], prompt='{instruction}: {text} {labels} {"a": {"b": 1}} {{x}}')
    assert stub.prompts == ["Do: t {labels} ['Sarcastic', 'Not Sarcastic'] {\"a\": {\"b\": 1}} {x}"]


def test_a_missing_placeholder_names_what_there_is(make_backend: MakeApp, stub: StubLLM) -> None:
    """Nothing is asked, and the status line says why."""
    backend = make_backend(USE_INTERNAL_PROMPT_TEMPLATE="0")
    answer = backend.predict(prompt="{foo} {bar} {text}")
    assert answer.status_code == 422
    assert "{foo}, {bar}" in answer.json["error"]["reason"]
    assert "{text}" in answer.json["error"]["reason"]
    assert not stub.calls


@pytest.mark.parametrize("internal", ["0", "1"])
def test_the_default_prompt_is_a_template_in_both_modes(
    make_backend: MakeApp, stub: StubLLM, internal: str
) -> None:
    """Its placeholders are filled, whether or not the internal template wraps it."""
    backend = make_backend(
        DEFAULT_PROMPT="Text: {text}, Labels: {labels}", USE_INTERNAL_PROMPT_TEMPLATE=internal
    )
    backend.predict([TASK])
    assert (
        "Text: I love it when my computer crashes, Labels: ['Sarcastic', 'Not Sarcastic']" in stub.prompts[0]
    )


def test_a_typed_prompt_goes_word_for_word_into_the_internal_template(
    backend: Backend, stub: StubLLM
) -> None:
    """Braces in it are not placeholders there."""
    backend.predict(prompt="Reply as {json}")
    assert stub.prompts[0].endswith("Task Directive: Reply as {json}")


@pytest.mark.parametrize(
    ("dialogue_format", "messages"),
    [
        ("text", [("user", "Source Text: user: Hi\nassistant: Ho\n\nTask Directive: Go on")]),
        ("messages", [("user", "Hi"), ("assistant", "Ho"), ("user", "Go on")]),
    ],
)
def test_a_dialogue_is_sent_as_text_or_as_messages(
    make_backend: MakeApp, stub: StubLLM, dialogue_format: str, messages: list[tuple[str, str]]
) -> None:
    """As DIALOGUE_FORMAT says."""
    make_backend(DIALOGUE_FORMAT=dialogue_format).predict([CHAT_TASK], prompt="Go on", config=CHAT)
    assert [(m["role"], m["content"]) for m in stub.calls[0].body["messages"]] == messages


def test_several_responses_fill_the_response_in_order(make_backend: MakeApp, stub: StubLLM) -> None:
    """NUM_RESPONSES texts, so that a person can choose."""
    stub.says(completion("a", "b", "c"))
    [prediction] = make_backend(NUM_RESPONSES="3").predict(prompt="x").json["results"]
    assert values(prediction)["response"] == ["a", "b", "c"]


def test_one_tasks_failure_is_its_own(backend: Backend, stub: StubLLM) -> None:
    """The others get their predictions; a batch in which all fail says why."""
    backend.predict(prompt="x")
    broken = {"id": 2, "data": {"other": "field"}}
    results = backend.predict([TASK, broken, TASK]).json["results"]
    assert [bool(result) for result in results] == [True, False, True]
    answer = backend.predict([broken, broken])
    assert answer.status_code == 422
    assert "no field text" in answer.status


def test_a_hopeless_batch_stops_at_the_first_few(make_backend: MakeApp, stub: StubLLM) -> None:
    """A wrong key is not tried a thousand times, and the status line says so."""
    backend = make_backend(DEFAULT_PROMPT="x", MAX_CONCURRENCY="4")
    stub.says(failure(401, "wrong"))
    answer = backend.predict([TASK] * 200)
    assert answer.status == "502 OpenAI refused the API key (401): check OPENAI_API_KEY"
    assert len(stub.calls) <= 8


def test_a_batch_answers_in_time_with_what_is_done(make_backend: MakeApp, stub: StubLLM) -> None:
    """What hangs is an empty list, which Label Studio asks for again."""
    backend = make_backend(DEFAULT_PROMPT="x", PREDICT_TIMEOUT="1", LLM_TIMEOUT="2")
    stub.answer = lambda call: Answer(
        body=completion("ok").body, delay=1.5 if "slow" in call.body["messages"][-1]["content"] else 0
    )
    slow = {"id": 2, "data": {"text": "slow"}}
    results = backend.predict([TASK, slow, TASK]).json["results"]
    assert [bool(result) for result in results] == [True, False, True]


def test_the_last_of_several_submitted_prompts_counts(backend: Backend, stub: StubLLM) -> None:
    """A TextArea without maxSubmissions keeps all that was ever submitted in it."""
    region = {"from_name": "prompt", "type": "textarea", "value": {"text": ["old", "new"]}}
    body = {"tasks": [TASK], "project": PROJECT, "label_config": CLASSIFICATION,
            "params": {"context": {"result": [region]}}}  # fmt: skip
    backend.client.post("/predict", json=body)
    assert stub.prompts[0].endswith("Task Directive: new")


def test_the_base_class_contract_holds(backend: Backend) -> None:
    """The class works as label-studio-ml 2.x uses it: made per request, extra params set after setup."""
    model = InteractiveLLM(project_id="7", label_config=CLASSIFICATION, services=backend.services)
    model.set_extra_params({"temperature": 0.1})
    assert model.extra_params == {"temperature": 0.1}
    assert model.label_interface.get_control("sentiment").name == "sentiment"
    context = {"result": [{"from_name": "prompt", "value": {"text": "one"}}]}
    [prediction] = model.predict([TASK], context=context)
    assert isinstance(prediction, dict)
    assert InteractiveLLM("7", services=backend.services).model_version == prediction["model_version"]
    with pytest.raises(LabelingConfigError):
        _ = InteractiveLLM("unknown", services=backend.services).model_version


@pytest.mark.parametrize("example", ["text-classification", "response-evaluation", "chat-fine-tuning"])
def test_the_examples_work(backend: Backend, example: str) -> None:
    """Labeling config and data of each example give a valid prediction for each of its tasks."""
    config = (EXAMPLES / example / "label_config.xml").read_text()
    tasks = json.loads((EXAMPLES / example / "tasks.json").read_text())
    assert backend.setup(config).status_code == 200
    backend.predict([_task(tasks[0])], prompt="Answer", config=config)
    results = backend.predict([_task(task) for task in tasks], config=config).json["results"]
    assert len(results) == len(tasks)
    assert all(LabelInterface(config).validate_prediction(result) for result in results)


def test_the_example_with_images_connects(backend: Backend) -> None:
    """And a task without a picture says so."""
    config = (EXAMPLES / "document-images" / "label_config.xml").read_text()
    assert backend.setup(config).status_code == 200
    answer = backend.predict([{"id": 1, "data": {"image": "x"}}], prompt="Sum up", config=config)
    assert "not the address of a file" in answer.json["error"]["reason"]


def _task(imported: dict[str, Any]) -> dict[str, Any]:
    return {"id": 1, "data": imported.get("data", imported)}


def test_an_unexpected_error_is_shown_too(
    make_backend: MakeApp, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As one sentence; the log has the rest."""
    backend = make_backend(SHOW_ERRORS="1")
    monkeypatch.setattr(type(backend.services.completions), "get", lambda *_: 1 / 0)
    [prediction] = backend.predict(prompt="any").json["results"]
    assert values(prediction)["response"] == ["\u26a0 Internal error: the server's log says more"]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("usage", [-1, 10**30, "many", True])
def test_a_count_of_tokens_that_cannot_be_loses_no_answer(
    make_backend: MakeApp, stub: StubLLM, usage: Any
) -> None:
    """Interactive and in a batch: the answer is paid for, whatever the provider counts."""
    body = completion("Sarcastic").body or {}
    stub.says(Answer(body=body | {"usage": {"prompt_tokens": usage, "completion_tokens": usage}}))
    backend = make_backend()
    assert values(backend.predict(prompt="any").json["results"][0])["response"] == ["Sarcastic"]
    other = {"id": 2, "data": {"text": "another"}}
    assert all(backend.predict([TASK, other]).json["results"])
