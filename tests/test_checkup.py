"""`--check`: what it finds of the server, of Label Studio and of the projects, and how it ends."""

import base64
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from werkzeug.serving import make_server

from llm_backend.checkup import LONGEST_SECONDS, Finding, check
from llm_backend.checkup.findings import found, ok, one_line, summary, warning
from llm_backend.settings import PROJECT_ROOT, Settings
from testkit.stub_label_studio import (
    ACCESS_TOKEN,
    BLOCKED,
    LEGACY_IS_OFF,
    LEGACY_TOKEN,
    PERSONAL_TOKEN,
    StubLabelStudio,
    json_web_token,
    running_label_studio,
)
from testkit.stub_llm import StubLLM, failure
from testkit.work import submit, tasks
from tests.conftest import CLASSIFICATION, MakeApp

NOBODY = "1"  # a port on which nothing listens, because it is reserved for a service of 1988
OURS = f"http://127.0.0.1:{NOBODY}"
CREATED = "1.1795542053"  # the first project of the stub, as requests name it
MakeSettings = Callable[..., Settings]
Check = Callable[..., list[Finding]]


@pytest.fixture
def label_studio() -> Iterator[StubLabelStudio]:
    """A Label Studio that answers as the real one does."""
    with running_label_studio() as stub:
        yield stub


@pytest.fixture
def run(make_settings: MakeSettings, label_studio: StubLabelStudio) -> Check:
    """All findings with these settings, and Label Studio's address and token."""

    def run_check(**variables: str) -> list[Finding]:
        defaults = {
            "PORT": NOBODY,
            "DEFAULT_PROMPT": "Is it sarcastic?",
            "LABEL_STUDIO_URL": label_studio.url,
            "LABEL_STUDIO_API_KEY": LEGACY_TOKEN,
        }
        return list(check(lambda: make_settings(**(defaults | variables))))

    return run_check


def text(findings: list[Finding]) -> str:
    """All lines as they are printed."""
    return "\n".join(line for finding in findings for line in finding.lines())


def failures(findings: list[Finding]) -> list[str]:
    """The texts of what has failed, of the parts where there are any."""
    return [
        finding.text
        for whole in findings
        for finding in (whole.below or (whole,))
        if finding.level == "FAILED"
    ]


def version(make_settings: MakeSettings, config: str = CLASSIFICATION) -> str:
    """The model version of a project that has nothing but the default prompt."""
    from llm_backend.asking.shape import Shapes

    return Shapes(make_settings(DEFAULT_PROMPT="Is it sarcastic?")).shape(config, {}, None).model_version


def test_all_is_well(
    run: Check, label_studio: StubLabelStudio, stub: StubLLM, make_settings: MakeSettings, tmp_path: Path
) -> None:
    """A line for each check, one completion, nothing but `ok`, and not a file is made."""
    label_studio.add(CLASSIFICATION, OURS, version(make_settings))
    findings = run()

    assert [finding.text.partition(":")[0] for finding in findings] == [
        "settings", "state", "completion", "OCR", "server", "Label Studio", 'project 1 "p1"',
    ]  # fmt: skip
    assert failures(findings) == []
    assert {finding.level for finding in findings if not finding.text.startswith("OCR")} == {"ok"}
    assert "gpt-3.5-turbo answered in" in text(findings)
    assert "11 + 5 tokens" in text(findings)
    assert "the legacy token of admin@example.com" in text(findings)
    assert len(stub.calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_bad_settings_are_all_named(make_settings: MakeSettings) -> None:
    """Every problem has its line, and nothing else is checked."""
    [finding] = check(lambda: make_settings(TEMPERATURE="9", PORT="x"))

    assert finding.level == "FAILED"
    assert [problem.text.partition("=")[0] for problem in finding.below] == ["TEMPERATURE", "PORT"]


def test_a_missing_key_is_named_and_nothing_is_asked(run: Check, stub: StubLLM) -> None:
    """Without what the provider needs, no completion is tried."""
    findings = run(OPENAI_API_KEY="")

    assert any("needs OPENAI_API_KEY" in problem for problem in failures(findings))
    assert stub.calls == []


def test_the_providers_error_is_told(run: Check, stub: StubLLM) -> None:
    """A refused key is a failure with the sentence that people know from elsewhere."""
    stub.says(failure(401))

    assert any(problem.startswith("completion: OpenAI refused") for problem in failures(run()))


def test_a_folder_that_cannot_be_written_is_a_failure(run: Check, tmp_path: Path) -> None:
    """MODEL_DIR below a file can never be made."""
    (tmp_path / "file").touch()

    assert any("cannot be written" in problem for problem in failures(run(MODEL_DIR=f"{tmp_path}/file/data")))


def test_a_corrupt_database_is_told_of(run: Check, tmp_path: Path) -> None:
    """It is a failure that says what to do, and stays where it is for the next start."""
    (tmp_path / "state.sqlite3").write_bytes(b"not a database" * 1000)

    assert any("state: The database is corrupt: start the server again" in one for one in failures(run()))
    assert (tmp_path / "state.sqlite3").read_bytes() == b"not a database" * 1000


def test_a_database_that_is_there_is_tried(run: Check, make_backend: MakeApp, postgresql_url: str) -> None:
    """SQLite and PostgreSQL alike can be written, and are as they were."""
    projects = make_backend().services.projects
    projects.remember_prompt("1.5", "p")

    assert "state.sqlite3 can be written" in text(run())
    assert "the database of DATABASE_URL can be written" in text(run(DATABASE_URL=postgresql_url))
    assert postgresql_url not in text(run(DATABASE_URL=postgresql_url))
    assert projects.get("1.5").prompt == "p"


def test_tesseract_is_only_warned_of(run: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without tesseract, or a language of it, the rest can work; with IMAGE_INPUT=vision it is not needed."""
    assert "no data for xyz" in text(run(OCR_LANGUAGES="xyz"))
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = run()

    assert [finding.level for finding in findings if finding.text.startswith("OCR")] == ["warning"]
    assert failures(findings) == []
    assert "OCR" not in text(run(IMAGE_INPUT="vision"))


def test_without_an_address_label_studio_is_not_checked(make_settings: MakeSettings) -> None:
    """The line says what LABEL_STUDIO_URL is good for, and nothing has failed."""
    findings = list(check(lambda: make_settings(PORT=NOBODY)))

    assert failures(findings) == []
    assert "LABEL_STUDIO_URL is not set" in findings[-1].text


def test_a_token_without_an_address_is_a_warning(make_settings: MakeSettings) -> None:
    """Half of the pair does nothing."""
    findings = list(check(lambda: make_settings(PORT=NOBODY, LABEL_STUDIO_API_KEY=LEGACY_TOKEN)))

    assert findings[-1].level == "warning"


@pytest.mark.parametrize(
    ("token", "refusal", "says"),
    [
        ("", "", "no token: make a personal access token"),
        ("0" * 40, "", "a legacy token that no user of this Label Studio has"),
        (LEGACY_TOKEN, LEGACY_IS_OFF, "a legacy token, and this Label Studio has those switched off"),
        (PERSONAL_TOKEN, "Token is blacklisted", "has been revoked"),
        (PERSONAL_TOKEN, "Token is invalid", "this Label Studio has not made"),
        (PERSONAL_TOKEN.rpartition(".")[0], "", "is cut off"),
        (ACCESS_TOKEN, "", "is an access token, which lasts a few minutes"),
        (json_web_token(token_type="refresh", exp=1_600_000_000), "", "has expired on 2020-09-13"),
        (json_web_token(token_type="access", exp=1_600_000_000), "", "is an access token"),
        (LEGACY_TOKEN, "Something new", "refuses the token of LABEL_STUDIO_API_KEY (status 401)"),
    ],
)
def test_what_is_wrong_with_a_token(
    run: Check, label_studio: StubLabelStudio, token: str, refusal: str, says: str
) -> None:
    """Each kind of wrong token has its sentence, without the token, and no project is looked at."""
    label_studio.refusal = refusal
    findings = run(LABEL_STUDIO_API_KEY=token)
    [problem] = failures(findings)

    assert says in problem
    assert findings[-1].text == problem
    assert not token or token not in text(findings)


def test_a_personal_access_token_is_taken(run: Check) -> None:
    """It is told which kind it is."""
    assert "takes the personal access token of admin@example.com" in text(
        run(LABEL_STUDIO_API_KEY=PERSONAL_TOKEN)
    )


def test_label_studio_below_a_path(run: Check, label_studio: StubLabelStudio) -> None:
    """With a personal access token, too, it is found there."""
    label_studio.url += "/labels"
    label_studio.add(CLASSIFICATION, OURS, auto_update=False)
    variables = {"LABEL_STUDIO_URL": label_studio.url, "LABEL_STUDIO_API_KEY": PERSONAL_TOKEN}

    assert failures(run(**variables)) == []


@contextmanager
def answering(status: int, headers: dict[str, str]) -> Iterator[str]:
    """A web server that is not Label Studio."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_label_studio_cannot_be_reached(run: Check, label_studio: StubLabelStudio) -> None:
    """A closed port, an unknown host, a port without TLS and something else on it are told apart."""
    for url, says in {
        OURS: "refuses the connection",
        "http://nowhere.invalid": "the host of http://nowhere.invalid cannot be found",
        label_studio.url.replace("http:", "https:"): "TLS to",
    }.items():
        assert [says in problem for problem in failures(run(LABEL_STUDIO_URL=url))] == [True], url
    with answering(404, {}) as url:
        assert "is not Label Studio (status 404" in failures(run(LABEL_STUDIO_URL=url))[0]
    with answering(301, {"Location": "https://labels.example/user/login?next=1"}) as url:
        assert "redirects to https://labels.example:" in failures(run(LABEL_STUDIO_URL=url))[0]


def test_no_project_has_a_model(run: Check, label_studio: StubLabelStudio) -> None:
    """A fresh Label Studio is a warning, which tells of its protection where that will be in the way."""
    label_studio.blocked = True
    findings = run()

    assert findings[-1].level == "warning"
    assert "none has a model connected" in findings[-1].text
    assert "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false" in findings[-1].text
    assert label_studio.created == []


NO_PROMPT = CLASSIFICATION.replace('name="prompt"', 'name="question"')
WRONG_OBJECT = CLASSIFICATION.replace("<View>", '<View><Audio name="audio" value="$audio"/>').replace(
    'name="prompt" toName="text"', 'name="prompt" toName="audio"'
)
OTHER_OBJECT = CLASSIFICATION.replace("<View>", '<View><Text name="title" value="$text"/>').replace(
    'name="sentiment" toName="text"', 'name="sentiment" toName="title"'
)
OTHER_FIELD = CLASSIFICATION.replace("$text", "$review")
UNFILLED = CLASSIFICATION.replace("</View>", '<Choices name="empty" toName="text"/></View>')


@pytest.mark.parametrize(
    ("config", "model", "level", "says"),
    [
        (NO_PROMPT, {}, "FAILED", "The labeling config has no prompt: add"),
        (WRONG_OBJECT, {}, "FAILED", 'The prompt\'s toName="audio" must be the name of a Text'),
        (OTHER_FIELD, {}, "FAILED", "task 10: The task has no field review"),
        (OTHER_OBJECT, {}, "warning", 'Choices sentiment has toName="title", the prompt has toName="text"'),
        (UNFILLED, {}, "warning", "not filled: Choices empty: it has no labels"),
        (CLASSIFICATION, {"is_interactive": False}, "warning", "Shift+Enter does nothing"),
        (CLASSIFICATION, {"extra_params": {"modle": "x"}}, "FAILED", "modle is not known"),
        (
            CLASSIFICATION,
            {"extra_params": {"default_prompt": "{x}"}},
            "FAILED",
            "task 10: The prompt names {x}",
        ),
        (CLASSIFICATION, {"model_version": "x-00000000"}, "warning", "start the server again"),
        (CLASSIFICATION, {"basic_auth_pass_is_set": True}, "warning", "the server asks for none"),
        (CLASSIFICATION, {"state": "DI", "error_message": "stale"}, "warning", "start the server, and check"),
        (
            CLASSIFICATION,
            {"state": "ER", "error_message": f"422 Client Error: No. for url: {OURS}/setup"},
            "FAILED",
            "Label Studio says: No.",
        ),
    ],
)
def test_what_is_wrong_with_a_project(
    run: Check,
    label_studio: StubLabelStudio,
    make_settings: MakeSettings,
    config: str,
    model: dict[str, Any],
    level: str,
    says: str,
) -> None:
    """Each problem is told below its project, once, and the project is as bad as that."""
    label_studio.add(config, OURS, **{"auto_update": "model_version" in model, **model})
    label_studio.models[1][0].setdefault("model_version", version(make_settings))
    project = run()[-1]

    assert [finding.level for finding in project.below if says in finding.text] == [level]
    assert len(project.below) == 1
    assert project.level == level
    assert "stale" not in text([project])


def test_label_studio_repeats_what_we_say(run: Check, label_studio: StubLabelStudio) -> None:
    """What both say of a labeling config is told once."""
    said = (
        '422 Client Error: The labeling config has no prompt: add <TextArea name="prompt" toName="..."/>, '
        f"or set PROMPT_PREFIX to the start of its name for url: {OURS}/setup"
    )
    label_studio.add(NO_PROMPT, OURS, state="ER", error_message=said)

    assert len(run()[-1].below) == 1


def test_blocked_addresses(run: Check, label_studio: StubLabelStudio) -> None:
    """Label Studio's protection shows only as Disconnected; it is asked, and nothing is stored there."""
    label_studio.add(CLASSIFICATION, OURS, state="DI", auto_update=False)
    label_studio.blocked = True
    [problem] = failures(run())

    assert BLOCKED in problem
    assert "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false" in problem
    assert label_studio.created == []


def test_a_server_that_runs_but_is_not_reached(
    run: Check, label_studio: StubLabelStudio, make_backend: MakeApp
) -> None:
    """That the server runs is seen; that Label Studio does not reach it is then the address's fault."""
    server = make_server("127.0.0.1", 0, make_backend().client.application, threaded=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        label_studio.add(CLASSIFICATION, f"http://localhost:{server.port}", state="DI")
        findings = run(PORT=str(server.port))
        other_model = text(run(PORT=str(server.port), OPENAI_MODEL="gpt-x"))
    finally:
        server.shutdown()
        server.server_close()

    assert f"server: running on port {server.port}" in text(findings)
    assert ["does not reach" in problem for problem in failures(findings)] == [True]
    assert "has provider openai and model gpt-3.5-turbo, which is not what was checked" in other_model


def test_another_program_on_the_port(run: Check) -> None:
    """The server could not listen there."""
    with answering(200, {}) as url:
        assert "another program listens" in failures(run(PORT=url.rpartition(":")[2]))[0]


def test_a_model_that_is_not_this_server(run: Check, label_studio: StubLabelStudio) -> None:
    """Its address is told, without a password in it, and nothing is said of its labeling config."""
    label_studio.add(NO_PROMPT, "http://user:secret@yolo:9091")
    project = run()[-1]

    assert project.level == "ok"
    assert "the model http://yolo:9091 is not on this server's port" in project.text


def test_two_models_of_a_project(run: Check, label_studio: StubLabelStudio) -> None:
    """Each is told of by its address."""
    label_studio.add(CLASSIFICATION, OURS, auto_update=False)
    label_studio.models[1] += [label_studio.models[1][0] | {"url": "http://yolo:9091"}]
    project = run()[-1]

    assert project.text == 'project 1 "p1" has 2 models:'
    assert [OURS in finding.text for finding in project.below] == [True, False]


CREDENTIALS = {"BASIC_AUTH_USER": "u", "BASIC_AUTH_PASS": "pass-word"}
HEADER = {"authorization": "Basic " + base64.b64encode(b"u:pass-word").decode()}


@pytest.mark.parametrize(
    ("hook", "variables", "level", "says"),
    [
        ({"url": "http://elsewhere/webhook"}, {}, "warning", "the webhook is missing"),
        ({"is_active": False}, {}, "warning", "the webhook is switched off"),
        ({"is_active": False}, {"REMEMBER_PROMPT": "submitted"}, "FAILED", "remembers no others"),
        ({"send_payload": False}, {}, "warning", "the webhook does not send annotations"),
        (
            {"send_for_all_actions": False, "actions": ["ANNOTATION_CREATED"]},
            {},
            "warning",
            "the webhook does not send annotations",
        ),
        ({}, CREDENTIALS, "warning", "the webhook has no credentials"),
        ({"headers": {"Authorization": "Basic eA=="}}, CREDENTIALS, "warning", "has no credentials"),
        ({}, CREDENTIALS | {"WEBHOOK_UPDATES_PROMPT": "1"}, "ok", ""),
        ({"headers": HEADER}, CREDENTIALS, "ok", ""),
        (
            {"send_for_all_actions": False, "actions": ["ANNOTATION_CREATED", "ANNOTATION_UPDATED"]},
            {},
            "ok",
            "",
        ),
    ],
)
def test_the_webhook(
    run: Check,
    label_studio: StubLabelStudio,
    hook: dict[str, Any],
    variables: dict[str, str],
    level: str,
    says: str,
) -> None:
    """A webhook that does not bring submitted prompts is a warning; a failure where nothing else does."""
    label_studio.add(
        CLASSIFICATION, OURS, auto_update=False,
        basic_auth_user="u" if "BASIC_AUTH_USER" in variables else "",
        basic_auth_pass_is_set="BASIC_AUTH_USER" in variables,
    )  # fmt: skip
    label_studio.webhooks[1][0] |= hook
    project = run(**variables)[-1]

    assert project.level == level
    assert says in text([project])
    assert "pass-word" not in text([project])


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({}, "(there is none now)"),
        ({"basic_auth_user": "v", "basic_auth_pass_is_set": True}, "(there is another user now)"),
        (
            {
                "basic_auth_user": "u",
                "basic_auth_pass_is_set": True,
                "state": "ER",
                "error_message": "401 Client Error: Wrong or missing credentials for url: http://x/setup",
            },
            "is not that of BASIC_AUTH_PASS",
        ),
    ],
)
def test_basic_auth_of_the_model_page(
    run: Check, label_studio: StubLabelStudio, model: dict[str, Any], says: str
) -> None:
    """Credentials that the server would refuse are told."""
    label_studio.add(CLASSIFICATION, OURS, **{"auto_update": False, **model})
    label_studio.webhooks[1][0]["headers"] = HEADER
    [problem] = failures(run(**CREDENTIALS))

    assert says in problem


def test_the_remembered_prompt_counts(
    run: Check, label_studio: StubLabelStudio, make_backend: MakeApp
) -> None:
    """A project that this server knows is told with its own prompt, and without any it is a warning."""
    label_studio.add(CLASSIFICATION, OURS, auto_update=False)
    assert "Retrieve Predictions has no prompt:" in text(run(DEFAULT_PROMPT=""))
    projects = make_backend().services.projects
    projects.remember_setup(CREATED, CLASSIFICATION, {})
    projects.remember_prompt(CREATED, "Is it sarcastic?")
    findings = run(DEFAULT_PROMPT="")

    assert failures(findings) == []
    assert "prompt of batches: the one used last" in findings[-1].text
    assert findings[-1].level == "ok"


def test_only_so_many_projects_are_looked_at(run: Check, label_studio: StubLabelStudio) -> None:
    """Of more than 500 projects the newest are looked at, and that is said."""
    label_studio.add(CLASSIFICATION, OURS, auto_update=False)
    for _ in range(501):
        label_studio.add(CLASSIFICATION, OURS)
        label_studio.models[len(label_studio.projects)] = []
    findings = run()

    assert "only the newest 500 of 502 were looked at" in text(findings)
    assert 'project 1 "p1"' not in text(findings)


def test_a_title_cannot_write_on_the_terminal(run: Check, label_studio: StubLabelStudio) -> None:
    """Line breaks and escape sequences of a title stay out of the output."""
    label_studio.add(CLASSIFICATION, OURS, auto_update=False)
    label_studio.projects[0]["title"] = "a\x1b[2J\nok       fine"

    assert 'project 1 "a [2J ok fine"' in text(run())


def test_what_hangs_is_given_up() -> None:
    """A check that never ends is a failure when its time is up."""
    never = threading.Event()

    def hang() -> Finding:
        never.wait(60)
        return ok("")

    finding = found("LLM", 0.05, hang)
    never.set()

    assert finding.level == "FAILED"
    assert finding.text.startswith("LLM: not done after")


def test_all_of_it_ends_in_time() -> None:
    """What `--help` and docs/troubleshooting.md promise: five minutes besides the completion."""
    assert LONGEST_SECONDS <= 300


def test_an_unexpected_error_is_told_by_its_kind() -> None:
    """Its text may hold a token, and stays out of the output."""

    def fail() -> Finding:
        raise RuntimeError("Illegal header value: Token secret")

    assert found("LLM", 5, fail).text == "LLM: unexpected error (RuntimeError)"


def test_a_whole_is_as_bad_as_its_worst_part() -> None:
    """A part that is ok does not make up for one that is not."""
    assert summary("all", (warning("a"), ok("b"))).level == "warning"
    assert summary("all", ()).level == "ok"
    assert one_line("x" * 600).endswith("xxx...")


def run_process(**variables: str) -> subprocess.CompletedProcess[str]:
    """`python _wsgi.py --check` with just these variables."""
    return subprocess.run(
        [sys.executable, "_wsgi.py", "--check"],
        cwd=PROJECT_ROOT,
        env={"PATH": os.environ["PATH"], "PORT": NOBODY, **variables},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_the_command_succeeds_and_takes_no_work(
    stub: StubLLM, label_studio: StubLabelStudio, make_backend: MakeApp, tmp_path: Path
) -> None:
    """It exits with 0, prints no secret, and leaves alone what a server with the same state has to do."""
    jobs = make_backend().services.jobs
    job_id = submit(jobs, tasks(1))
    label_studio.add(CLASSIFICATION, OURS, auto_update=False)
    label_studio.projects[0]["title"] = "Größe"
    done = run_process(
        MODEL_DIR=str(tmp_path),
        OPENAI_API_KEY="sk-secret",
        OPENAI_BASE_URL=stub.url,
        LABEL_STUDIO_URL=label_studio.url,
        LABEL_STUDIO_API_KEY=LEGACY_TOKEN,
        PYTHONIOENCODING="ascii",
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok       settings: provider openai")
    assert 'project 1 "Gr??e"' in done.stdout
    assert "FAILED" not in done.stdout
    assert "sk-secret" not in done.stdout
    assert LEGACY_TOKEN not in done.stdout
    assert len(stub.calls) == 1
    assert len(jobs.tasks.lease(job_id, "a server", 10, 30)) == 1


def test_the_command_fails_with_all_problems(tmp_path: Path) -> None:
    """Settings that cannot be are printed, all of them, and it exits with 1."""
    done = run_process(MODEL_DIR=str(tmp_path), TEMPERATURE="9", THREADS="x")

    assert done.returncode == 1
    assert "FAILED     TEMPERATURE=9" in done.stdout
    assert "FAILED     THREADS=x" in done.stdout


def test_the_port_of_tests_is_closed() -> None:
    """The tests above count on it."""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(NOBODY))) != 0
