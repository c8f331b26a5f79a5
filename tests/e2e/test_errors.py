"""Errors, as an annotator sees them on the labeling page."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from testkit.real_label_studio import LabelingPage, LabelStudio
from testkit.servers import backend
from testkit.stub_llm import StubLLM, failure
from tests.e2e.conftest import ROOT

OpenTask = Callable[[int], LabelingPage]


def test_the_response_box_says_why_there_is_no_answer(
    label_studio: LabelStudio, stub: StubLLM, open_task: OpenTask, tmp_path: Path, screenshots: Path
) -> None:
    """No label is ticked; what to do is said; the next Shift+Enter, once that is done, replaces it."""
    stub.says("It is Sarcastic.")
    project = label_studio.create_project(ROOT / "examples" / "text-classification")
    with backend(stub.url, model_dir=tmp_path, RESPONSE_FORMAT="text") as server:
        assert label_studio.connect(project, server.url).ok
        labeling = open_task(project)
        labeling.ask("Is this sarcastic?")
        expect(labeling.choice("Sarcastic")).to_be_checked()

        stub.says(failure(401, "Incorrect API key provided"))
        labeling.ask("Is this really sarcastic?")

        expect(labeling.text("response")).to_have_text(
            "⚠ OpenAI refused the API key (401): check OPENAI_API_KEY"
        )
        expect(labeling.text("prompt")).to_have_text("Is this really sarcastic?")
        expect(labeling.choice("Sarcastic")).not_to_be_checked()
        labeling.page.screenshot(path=screenshots / "error.png")

        stub.says("It is Not Sarcastic.")
        labeling.ask("Is this really, really sarcastic?")

        expect(labeling.text("response")).to_have_text("It is Not Sarcastic.")
        expect(labeling.text("response")).to_have_count(1)
        expect(labeling.choice("Not Sarcastic")).to_be_checked()
