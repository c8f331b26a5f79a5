"""Retrieve Predictions over all tasks of a project."""

from collections.abc import Callable

from playwright.sync_api import expect

from testkit.real_label_studio import LabelingPage, LabelStudio
from tests.e2e.conftest import Backend
from tests.e2e.test_interactive import SAYS_NOT_SARCASTIC, SAYS_SARCASTIC


def test_predictions_are_retrieved_once_for_each_prompt(
    label_studio: LabelStudio,
    backend: Backend,
    connected_project: Callable[[str], int],
    open_task: Callable[[int], LabelingPage],
) -> None:
    """Each task gets one prediction for each prompt, also when the server is restarted in between."""
    project = connected_project("text-classification")
    tasks = [task["id"] for task in label_studio.tasks(project)]
    assert len(tasks) == 20

    def versions() -> dict[str, list[int]]:
        """The tasks that have a prediction, by the prediction's model version."""
        found: dict[str, list[int]] = {}
        for prediction in label_studio.predictions(project):
            found.setdefault(prediction["model_version"], []).append(prediction["task"])
        return found

    label_studio.retrieve_predictions(project)
    assert versions() == {}  # there is no prompt yet

    labeling = open_task(project)
    labeling.ask(SAYS_SARCASTIC)
    expect(labeling.choice("Sarcastic")).to_be_checked()
    first = label_studio.model(project)["model_version"]
    label_studio.retrieve_predictions(project)
    assert versions() == {first: tasks}

    label_studio.retrieve_predictions(project)
    assert versions() == {first: tasks}  # nothing is asked for twice

    backend.restart()
    assert label_studio.model(project)["model_version"] == first  # the prompt is remembered
    label_studio.retrieve_predictions(project)
    assert versions() == {first: tasks}

    labeling = open_task(project)
    labeling.ask(SAYS_NOT_SARCASTIC)
    expect(labeling.choice("Not Sarcastic")).to_be_checked()
    second = label_studio.model(project)["model_version"]
    assert second != first
    label_studio.retrieve_predictions(project)
    assert versions() == {first: tasks, second: tasks}
