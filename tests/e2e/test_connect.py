"""Connecting a model to a project, as "Validate and Save" on Label Studio's model page does."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from testkit.real_label_studio import LabelStudio
from tests.e2e.conftest import ROOT, Backend

EXAMPLES = ("text-classification", "response-evaluation", "chat-fine-tuning", "document-images")


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_connects(
    example: str, connected_project: Callable[[str], int], label_studio: LabelStudio
) -> None:
    """The model connects to the project of each example, for interactive use, and has a version."""
    model = label_studio.model(connected_project(example))

    assert (model["readable_state"], model["is_interactive"]) == ("Connected", True)
    assert model["model_version"]


def test_a_labeling_config_without_a_prompt_is_refused(label_studio: LabelStudio, backend: Backend) -> None:
    """Label Studio does not connect a project without a prompt TextArea, and shows the reason we gave."""
    project = label_studio.create_project_of(
        "no prompt",
        '<View><Text name="text" value="$text"/>'
        '<TextArea name="response" toName="text"/>'
        '<Choices name="sentiment" toName="text"><Choice value="A"/><Choice value="B"/></Choices></View>',
        [{"text": "I love it when my computer crashes"}],
    )

    answer = label_studio.connect(project, backend.url)

    assert answer.status_code == 400
    (message,) = answer.json()["validation_errors"]["non_field_errors"]
    reason = message.partition("422 Client Error: ")[2].partition(" for url: ")[0]
    assert "TextArea" in reason
    assert "prompt" in reason


def test_the_receipts_are_shown(
    page: Page, connected_project: Callable[[str], int], label_studio: LabelStudio, screenshots: Path
) -> None:
    """The example's pictures, which are inside its tasks, are shown without any network."""
    project = connected_project("document-images")
    for task in label_studio.tasks(project):
        page.goto(label_studio.labeling_url(project, task["id"]))
        picture = page.locator(".lsf-image img")

        expect(picture).to_have_count(1)
        expect(picture).to_have_js_property("complete", value=True)
        expect(picture).to_have_js_property("naturalWidth", 480)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=screenshots / "document-images.png")


def test_the_receipts_are_those_in_the_folder() -> None:
    """The pictures inside the tasks are the files beside them."""
    folder = ROOT / "examples" / "document-images"
    inside = {
        base64.b64decode(task["image"].removeprefix("data:image/png;base64,"))
        for task in json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    }

    assert inside == {path.read_bytes() for path in folder.glob("*.png")}
