"""Structured replies on the labeling page: every supported control is filled by one Shift+Enter."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from label_studio_sdk.label_interface.interface import LabelInterface
from playwright.sync_api import expect

from testkit.real_label_studio import LabelingPage, LabelStudio
from testkit.stub_llm import StubLLM, completion, running_stub
from tests.e2e.conftest import ROOT, Backend

EXAMPLE = ROOT / "examples" / "every-control"
ANSWER: dict[str, Any] = {
    "response": "They liked the soup and disliked the noise.",
    "translation": "Sie mochten die Suppe.",
    "entities": [
        {"quote": "Anna", "label": "Person", "occurrence": None},
        {"quote": "Bob", "label": "Person", "occurrence": 2},
        {"quote": "Paris", "label": "Place", "occurrence": None},
        {"quote": "Berlin", "label": "Place", "occurrence": None},
    ],
    "sentiment": "Mixed",
    "topics": ["Food", "Noise"],
    "visit": "Regular guest",
    "kind": ["Review > Restaurant", "Review"],
    "style": 4,
    "guests": 2,
    "day": "2026-01-31",
    "clearer": "left",
}


@pytest.fixture(scope="module")
def stub() -> Iterator[StubLLM]:
    """An LLM that fills everything; the embedded model is too small for that."""
    with running_stub() as stub:
        stub.answer = lambda call: completion(json.dumps(ANSWER))
        yield stub


@pytest.fixture(scope="module")
def stubbed(stub: StubLLM, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """A server that asks the stub."""
    server = Backend(
        tmp_path_factory.mktemp("stubbed"),
        {"OPENAI_PROVIDER": "openai", "OPENAI_BASE_URL": stub.url, "OPENAI_API_KEY": "sk-test"},
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def project(label_studio: LabelStudio, stubbed: Backend) -> int:
    """A new project of the example, connected to that server."""
    project = label_studio.create_project(EXAMPLE)
    answer = label_studio.connect(project, stubbed.url)
    assert answer.status_code == 201, answer.text
    return project


def test_every_supported_control_is_filled(
    project: int, open_task: Callable[[int], LabelingPage], screenshots: Path
) -> None:
    """Texts, labels, stars, numbers, dates and sides are on the page; spans light up the right words."""
    labeling = open_task(project)
    answer = labeling.ask("What is this text about?")
    page = labeling.page

    interface = LabelInterface((EXAMPLE / "label_config.xml").read_text())
    assert interface.validate_prediction(answer["data"], return_errors=True) == []
    expect(labeling.text("response")).to_have_text(ANSWER["response"])
    expect(labeling.text("translation")).to_have_text(ANSWER["translation"])
    for label, checked in {
        "Mixed": True, "Positive": False, "Negative": False, "Food": True, "Noise": True, "Price": False,
        "Regular guest": True, "First visit": False,
    }.items():  # fmt: skip
        expect(labeling.choice(label)).to_be_checked(checked=checked)
    spans = page.locator(".htx-highlight")
    expect(spans).to_have_text(["Anna", "Paris", "Bob", "Anna", "Paris"])
    expect(page.locator(".ant-rate").nth(0).locator(".ant-rate-star-full")).to_have_count(4)
    expect(page.locator(".ant-rate").nth(1).locator(".ant-rate-star-full")).to_have_count(0)
    expect(page.locator('input[type="number"]')).to_have_value("2")
    expect(page.locator('input[type="date"]')).to_have_value("2026-01-31")
    expect(page.get_by_text(re.compile(r"Review\s*/\s*Restaurant"))).to_be_visible()
    expect(page.locator('[class*="bg-primary-background"]').filter(has_text="dined in")).to_be_visible()
    page.set_viewport_size({"width": 1280, "height": 1200})
    page.screenshot(path=screenshots / "every-control.png")


def test_another_answer_replaces_all_of_the_first(
    project: int, stub: StubLLM, open_task: Callable[[int], LabelingPage], screenshots: Path
) -> None:
    """No label or path of the first answer stays beside the second's; spans add up."""
    labeling = open_task(project)
    labeling.ask("What is this text about?")
    expect(labeling.page.locator(".htx-highlight")).to_have_count(5)
    less = {
        "response": "Nothing.",
        "entities": [{"quote": "Bob", "label": "Person", "occurrence": 1}],
        "topics": [],
        "kind": [],
    }
    stub.answer = lambda call: completion(json.dumps({**ANSWER, **less}))
    labeling.ask("And what else?")
    stub.answer = lambda call: completion(json.dumps(ANSWER))
    expect(labeling.text("response")).to_have_text("Nothing.")
    labeling.page.screenshot(path=screenshots / "every-control-second.png")
    for label in ("Food", "Noise"):
        expect(labeling.choice(label)).not_to_be_checked()
    expect(labeling.page.locator(".htx-highlight")).to_have_text(
        ["Anna", "Bob", "Paris", "Bob", "Anna", "Paris"]
    )
    expect(labeling.page.get_by_text(re.compile(r"Review\s*/\s*Restaurant"))).to_have_count(0)


def test_every_supported_control_is_stored_by_retrieve_predictions(
    project: int, open_task: Callable[[int], LabelingPage], label_studio: LabelStudio
) -> None:
    """Label Studio's own check of predictions takes them all."""
    open_task(project).ask("What is this text about?")
    label_studio.retrieve_predictions(project)
    [prediction] = label_studio.predictions(project)
    filled = {region["from_name"] for region in prediction["result"]}
    assert filled == {"prompt", *ANSWER}


def test_the_embedded_model_answers_with_labels_of_the_list(
    label_studio: LabelStudio,
    open_task: Callable[[int], LabelingPage],
    tmp_path: Path,
) -> None:
    """With the default settings its JSON fills the response and ticks a label, and there is a score."""
    server = Backend(tmp_path, {})
    try:
        server.start()
        project = label_studio.create_project(ROOT / "examples" / "text-classification")
        assert label_studio.connect(project, server.url).status_code == 201
        labeling = open_task(project)
        data = labeling.ask("Is the author being sarcastic? Answer in one sentence.")["data"]
    finally:
        server.stop()
    values = {region["from_name"]: region["value"] for region in data["result"]}
    expect(labeling.text("response")).to_have_text(values["response"]["text"][0])
    assert values["sentiment"]["choices"]
    for label in ("Sarcastic", "Not Sarcastic"):
        expect(labeling.choice(label)).to_be_checked(checked=label in values["sentiment"]["choices"])
    assert 0 < data["score"] <= 1
