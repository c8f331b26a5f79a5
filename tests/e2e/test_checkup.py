"""`python _wsgi.py --check` against a real Label Studio, beside the server that its projects use."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from testkit.real_label_studio import LabelStudio
from testkit.servers import Server, backend
from testkit.stub_llm import StubLLM
from tests.e2e.conftest import ROOT

CONFIG = (ROOT / "examples/text-classification/label_config.xml").read_text()
WITHOUT_PROMPT = CONFIG.replace('name="prompt"', 'name="question"')
TASKS = [{"data": {"text": "I love it when my computer crashes"}}]

Check = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def server(stub: StubLLM, tmp_path: Path) -> Iterator[Server]:
    """The server under test, asking the stub."""
    with backend(stub.url, model_dir=tmp_path / "state") as running:
        yield running


@pytest.fixture
def check(server: Server, stub: StubLLM, label_studio: LabelStudio, tmp_path: Path) -> Check:
    """Runs the command with the server's own settings, and Label Studio's address and token."""

    def run(**variables: str) -> "subprocess.CompletedProcess[str]":
        environment = {
            "PATH": os.environ["PATH"],
            "PORT": server.url.rpartition(":")[2],
            "MODEL_DIR": str(tmp_path / "state"),
            "OPENAI_API_KEY": "sk-check",
            "OPENAI_BASE_URL": stub.url,
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": label_studio.token,
            **variables,
        }
        return subprocess.run(
            [sys.executable, "_wsgi.py", "--check"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip

    return run


def about(project: int, output: str) -> list[str]:
    """The lines about this project, without those of others that earlier tests have left."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if f" project {project} " in line)
    below = lines[start + 1 :]
    end = next((number for number, line in enumerate(below) if line[9] != " "), len(below))
    return [lines[start], *below[:end]]


def test_a_project_that_works_and_one_without_a_prompt(
    check: Check, server: Server, label_studio: LabelStudio
) -> None:
    """The first has nothing that failed; the second, whose config has changed since, fails by that alone."""
    good = label_studio.create_project_of("good", CONFIG, TASKS)
    bad = label_studio.create_project_of("bad", CONFIG, TASKS)
    for project in (good, bad):
        assert label_studio.connect(project, server.url).ok
    label_studio.change_config(bad, WITHOUT_PROMPT)
    done = check(LABEL_STUDIO_API_KEY=label_studio.personal_access_token())

    assert f"takes the personal access token of {label_studio.email}" in done.stdout
    assert "server: running on port" in done.stdout
    head, *problems = about(good, done.stdout)
    assert head.startswith("warning  ")
    assert "Connected at" in head
    assert [problem.partition(":")[0] for problem in problems] == [
        "warning    Retrieve Predictions has no prompt"
    ]
    head, *problems = about(bad, done.stdout)
    assert head.startswith("FAILED   ")
    assert [problem.partition(":")[0] for problem in problems] == [
        "FAILED     The labeling config has no prompt"
    ]
    assert done.returncode == 1
    assert label_studio.token not in done.stdout


def test_tokens_of_the_wrong_kind(check: Check, label_studio: LabelStudio) -> None:
    """An access token and a wrong legacy token are told apart, and the check fails."""
    personal = label_studio.personal_access_token()
    refreshed = requests.post(
        f"{label_studio.url}/api/token/refresh/", json={"refresh": personal}, timeout=60
    )
    access = refreshed.json()["access"]
    for token, says in {
        access: "is an access token, which lasts a few minutes",
        "0" * 40: "is a legacy token that no user of this Label Studio has",
        personal[:-6] + "AAAAAA": "is a personal access token that this Label Studio has not made",
    }.items():
        done = check(LABEL_STUDIO_API_KEY=token)
        assert done.returncode == 1
        assert f"LABEL_STUDIO_API_KEY {says}" in done.stdout
        assert token not in done.stdout


def test_the_server_does_not_run(
    check: Check, label_studio: LabelStudio, stub: StubLLM, tmp_path: Path
) -> None:
    """Before the start, a project that was connected is a warning that says so, and not a failure."""
    project = label_studio.create_project_of("earlier", CONFIG, TASKS)
    with backend(stub.url, model_dir=tmp_path / "other") as earlier:
        assert label_studio.connect(project, earlier.url).ok
    done = check(PORT=earlier.url.rpartition(":")[2], MODEL_DIR=str(tmp_path / "other"))
    head, *problems = about(project, done.stdout)

    assert "Disconnected at" in head
    assert any(line.startswith("warning    Label Studio reaches nobody there") for line in problems)
    assert not any(line.startswith("FAILED") for line in [head, *problems])


def test_local_addresses_are_blocked(
    check: Check, server: Server, label_studio: LabelStudio, tmp_path: Path
) -> None:
    """A Label Studio with its default protection says nothing of it; the check finds it out."""
    project = label_studio.create_project_of("blocked", CONFIG, TASKS)
    assert label_studio.connect(project, server.url).ok
    protected = label_studio.protected_copy(tmp_path / "protected")
    protected.start()
    try:
        assert label_studio.model(project)["readable_state"] == "Connected"
        done = check(LABEL_STUDIO_URL=protected.url)
    finally:
        protected.stop()
    lines = about(project, done.stdout)

    assert done.returncode == 1
    assert any("FAILED     Label Studio does not call local addresses" in line for line in lines)
    assert any("ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false" in line for line in lines)
