"""A server on a database that version 1 of the tables wrote: what was paid for then is not paid for again."""

from pathlib import Path

import pytest

from llm_backend.storage import Ledger
from testkit.version_1 import ACTIVE, FINISHED, write_version_1
from tests.conftest import MakeApp

LLM = "http://127.0.0.1:18080/v1"  # which version 1 asked; nobody listens there now


@pytest.mark.parametrize(
    ("project", "field", "text", "count", "values"),
    [
        (FINISHED, "text", "text {}", 4, [["Sarcastic"]]),
        (ACTIVE, "review", "review {}", 3, [["It's good – 情感; 4"]]),  # noqa: RUF001 - as the LLM replied
    ],
)
def test_paid_completions_are_used(
    make_backend: MakeApp,
    tmp_path: Path,
    project: str,
    field: str,
    text: str,
    count: int,
    values: list[list[str]],
) -> None:
    """By a batch and by a person who opens a task, with the stored config, extra params and prompt."""
    write_version_1(f"sqlite:///{tmp_path}/state.sqlite3")
    backend = make_backend(OPENAI_BASE_URL=LLM, OPENAI_API_KEY="sk-of-the-environment")
    config = backend.services.projects.get(project).label_config or ""
    tasks = [{"id": n, "data": {field: text.format(n)}} for n in range(1, count + 1)]
    for asked in (tasks, tasks[:1]):
        answer = backend.predict(asked, project=project, config=config)
        filled = [
            [
                value
                for region in one["result"]
                if region["from_name"] != "prompt"
                for value in region["value"].values()
            ]
            for one in answer.json["results"]
        ]
        assert filled == [values] * len(asked)
    assert Ledger(backend.services.database).payments() == []
