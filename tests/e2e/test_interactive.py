"""Shift+Enter in the prompt, on the labeling page, in a browser."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from testkit.real_label_studio import LabelingPage, is_interactive

# The embedded model is tiny and its answers are poor, but to these prompts they name the label, whatever
# the task's text is.
SAYS_SARCASTIC = "Is the author being sarcastic? Answer in one sentence."
SAYS_NOT_SARCASTIC = "Explain in one sentence why this text is not sarcastic."
SAYS_NO_LABEL = "How many words has the text?"

ConnectedProject = Callable[[str], int]
OpenTask = Callable[[int], LabelingPage]


def test_the_response_is_filled_and_the_choice_ticked(
    connected_project: ConnectedProject, open_task: OpenTask, screenshots: Path
) -> None:
    """A prompt fills the response and ticks the label; an edited prompt replaces both."""
    labeling = open_task(connected_project("text-classification"))

    labeling.ask(SAYS_SARCASTIC)

    expect(labeling.choice("Sarcastic")).to_be_checked()
    expect(labeling.choice("Not Sarcastic")).not_to_be_checked()
    expect(labeling.text("response")).to_contain_text("sarcastic")
    expect(labeling.text("prompt")).to_have_text(SAYS_SARCASTIC)
    first_response = labeling.text("response").inner_text()
    labeling.page.screenshot(path=screenshots / "text-classification.png")

    labeling.ask(SAYS_NOT_SARCASTIC)

    expect(labeling.choice("Not Sarcastic")).to_be_checked()
    expect(labeling.choice("Sarcastic")).not_to_be_checked()
    expect(labeling.text("response")).to_contain_text("not sarcastic")
    expect(labeling.text("response")).not_to_contain_text(first_response)
    expect(labeling.text("response")).to_have_count(1)
    expect(labeling.text("prompt")).to_have_text(SAYS_NOT_SARCASTIC)
    labeling.page.screenshot(path=screenshots / "text-classification-edited.png")


def test_a_reply_without_a_label_leaves_none_ticked(
    connected_project: ConnectedProject, open_task: OpenTask
) -> None:
    """The label of an earlier reply does not stay ticked beside a reply that names none."""
    labeling = open_task(connected_project("text-classification"))
    labeling.ask(SAYS_SARCASTIC)
    expect(labeling.choice("Sarcastic")).to_be_checked()
    first_response = labeling.text("response").inner_text()

    labeling.ask(SAYS_NO_LABEL)

    expect(labeling.text("response")).not_to_have_text(first_response)
    expect(labeling.choice("Sarcastic")).not_to_be_checked()
    expect(labeling.choice("Not Sarcastic")).not_to_be_checked()


def test_submitting_asks_for_nothing(connected_project: ConnectedProject, open_task: OpenTask) -> None:
    """What was submitted stays: Label Studio's requests with an empty context, at Submit, change nothing."""
    labeling = open_task(connected_project("text-classification"))
    labeling.ask(SAYS_SARCASTIC)
    expect(labeling.text("response")).to_have_count(1)

    with labeling.page.expect_response(is_interactive) as answer:
        labeling.submit()

    assert answer.value.json()["data"]["result"] == []
    expect(labeling.choice("Sarcastic")).to_be_checked()


@pytest.mark.parametrize(
    ("example", "prompt"),
    [
        ("response-evaluation", "Summarize the text in one sentence."),
        ("chat-fine-tuning", "Tell me a joke about cats, in one sentence."),
    ],
)
def test_the_response_is_filled(
    example: str, prompt: str, connected_project: ConnectedProject, open_task: OpenTask, screenshots: Path
) -> None:
    """A prompt fills the response in the examples that have no choices."""
    labeling = open_task(connected_project(example))

    answer = labeling.ask(prompt)

    (response,) = (region for region in answer["data"]["result"] if region["from_name"] == "response")
    expect(labeling.text("response")).to_have_text(response["value"]["text"][0])
    expect(labeling.text("response")).not_to_be_empty()
    expect(labeling.text("prompt")).to_have_text(prompt)
    labeling.page.screenshot(path=screenshots / f"{example}.png")
