"""The parts of `make demo` that need no Label Studio; tests/e2e/test_demo.py has the rest."""

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo.backend import DemoBackend
from demo.errors import DemoError
from demo.lock import Lock
from demo.projects import EXAMPLES
from demo.servers import ServerStartError, is_free, on_a_free_port
from demo.state import MadeProject, State

ROOT = Path(__file__).resolve().parent.parent


def test_the_demo_does_not_need_the_tests() -> None:
    """Nothing of the demo imports what is only there for tests."""
    modules = sorted((ROOT / "demo").glob("*.py"))
    nodes = [node for path in modules for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    imported = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert "demo.errors" in imported
    assert [name for name in imported if name.partition(".")[0] in ("tests", "benchmarks")] == []


def test_every_example_has_what_a_project_is_made_of() -> None:
    """A labeling config, tasks and a first prompt."""
    for example in EXAMPLES:
        for name in ("label_config.xml", "tasks.json", "prompt.txt"):
            assert (ROOT / "examples" / example / name).read_text(encoding="utf-8").strip()


def test_the_user_stays_the_same_and_is_kept_from_others(tmp_path: Path) -> None:
    """The password is random, survives restarts, and only the owner can read its file."""
    first = State(tmp_path).credentials()
    assert State(tmp_path).credentials() == first
    assert (tmp_path / "credentials.env").stat().st_mode & 0o777 == 0o600
    assert first.password not in repr(first)
    (tmp_path / "other").mkdir()
    assert State(tmp_path / "other").credentials().password != first.password


def test_a_shell_can_read_the_user(tmp_path: Path) -> None:
    """Compose's Label Studio gets the user that way."""
    user = State(tmp_path).credentials()
    script = f'. {tmp_path}/credentials.env; echo "$LABEL_STUDIO_USERNAME $LABEL_STUDIO_PASSWORD"'
    said = subprocess.run(["/bin/sh", "-c", script], check=True, capture_output=True, text=True)
    assert said.stdout == f"{user.email} {user.password}\n"


def test_projects_are_remembered(tmp_path: Path) -> None:
    """What was written is read; a folder without the file has none."""
    assert State(tmp_path).projects() == {}
    made = {"text-classification": MadeProject(7, model=3, finished=True)}
    State(tmp_path).keep_projects(made)
    assert State(tmp_path).projects() == made


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": {"b": 1}}', b'{"a": 1}', b"\xff\xfe"])
def test_a_damaged_folder_is_named_with_the_way_out(tmp_path: Path, content: bytes) -> None:
    """No traceback: which file it is, and how to begin anew."""
    for name in ("projects.json", "credentials.env"):
        (tmp_path / name).write_bytes(content)
    for read in (State(tmp_path).projects, State(tmp_path).credentials):
        with pytest.raises(DemoError, match=r"(projects\.json|credentials\.env) is damaged.*make demo-clean"):
            read()


def test_only_one_demo_runs_in_a_folder(tmp_path: Path) -> None:
    """The second one reads what the first has said; the lock is free again when the first has closed it."""
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert first.take()
    assert not second.take()
    assert second.said() == {}
    first.say({"url": "http://127.0.0.1:8080", "pid": 1})
    assert second.said() == {"url": "http://127.0.0.1:8080", "pid": 1}
    os.close(first.descriptor)
    assert second.take()
    assert second.said() == {}
    os.close(second.descriptor)


def test_a_missing_key_is_named_before_anything_starts(tmp_path: Path) -> None:
    """`.env` names a provider and not its key: the demo says which variable, and the way without one."""
    env_file = tmp_path / ".env"
    env_file.write_text("OPENAI_PROVIDER=openai\n")
    with pytest.raises(DemoError, match=r"OPENAI_API_KEY(.|\n)*OPENAI_PROVIDER=embedded"):
        DemoBackend(tmp_path, {}, env_file)
    env_file.write_text("OPENAI_PROVIDER=nonsense\n")
    with pytest.raises(DemoError, match="OPENAI_PROVIDER=nonsense"):
        DemoBackend(tmp_path, {}, env_file)


def test_without_an_env_file_the_embedded_model_is_asked(tmp_path: Path) -> None:
    """A key that the shell happens to have is not used for a demo."""
    backend = DemoBackend(tmp_path, {"OPENAI_API_KEY": "sk-somebody"}, tmp_path / ".env")
    assert backend.parameters.endpoint.provider == "embedded"
    assert backend.is_free_of_charge


def test_the_provider_of_the_env_file_is_asked(tmp_path: Path) -> None:
    """And nothing of it is changed but where the state is; what costs money waits for a person."""
    env_file = tmp_path / ".env"
    env_file.write_text("OPENAI_API_KEY=sk-x\nOPENAI_MODEL=m\nDATABASE_URL=sqlite:////tmp/theirs.sqlite3\n")
    backend = DemoBackend(tmp_path, {}, env_file)
    assert (backend.parameters.endpoint.provider, backend.parameters.model) == ("openai", "m")
    assert not backend.is_free_of_charge
    assert str(tmp_path) in str(
        backend.settings.database_url and backend.settings.database_url.get_secret_value()
    )


def test_a_taken_port_is_left_to_who_has_it() -> None:
    """The preferred port where it is free, another one where it is not, or where somebody was faster."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = int(listener.getsockname()[1])
        assert not is_free(taken)
        assert on_a_free_port(lambda port: None, preferred=taken) != taken
    assert is_free(taken)
    assert on_a_free_port(lambda port: None, preferred=taken) == taken
    tried: list[int] = []

    def start(port: int) -> None:
        tried.append(port)
        if len(tried) == 1:
            raise ServerStartError("taken", port_was_taken=True)

    assert on_a_free_port(start, preferred=taken) == tried[1] != taken


def test_a_folder_that_cannot_be_is_a_sentence(tmp_path: Path) -> None:
    """A file where the folder should be: no traceback, and the demo ends with 1."""
    (tmp_path / "file").touch()
    command = [sys.executable, "-m", "demo", "--folder", str(tmp_path / "file")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "The demo cannot go on." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_servers_that_a_killed_demo_has_left_are_named(tmp_path: Path) -> None:
    """Who holds the lock in place of a demo that is gone is to be ended by the person."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock = Lock(tmp_path / "lock")
    assert lock.take()
    lock.say({"pid": gone.pid, "servers": [11, 12], "url": "", "message": ""})
    command = [sys.executable, "-m", "demo", "--folder", str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    os.close(lock.descriptor)
    assert (ended.returncode, "kill 11 12" in ended.stderr) == (1, True)
