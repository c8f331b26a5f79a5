"""The log of real processes: what a line holds, what none ever holds, and that nobody can forge one."""

import base64
import json
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_backend.errors import BackendError, error_of_code
from llm_backend.operations import logs
from llm_backend.operations.redaction import MASK, Redactor, redact
from llm_backend.settings import load_settings
from testkit.canary import Asked, FileServer, Page, running
from testkit.servers import ROOT, Server, backend
from testkit.stub_llm import Answer, Call, StubLLM, completion, failure
from testkit.waiting import eventually
from tests.conftest import CLASSIFICATION, PROJECT, Backend, MakeApp
from tests.test_runner import tasks

USER, PASSWORD = "annotator", "basic-pässword-31"
OF_FILES = CLASSIFICATION.replace('value="$text"/>', 'value="$text" valueType="url"/>', 1)
UNFILTERED = (
    "import sys, llm_backend.operations.logs as logs; logs.redact = str; "
    "sys.argv = ['gunicorn', '_wsgi:app']; "
    "from gunicorn.app.wsgiapp import run; run()"
)


def jwt(**claims: Any) -> str:
    """A token with these claims, as Label Studio's personal access tokens look."""
    parts = ({"alg": "HS256", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"])


def basic(user: str, password: str, encoding: str = "utf-8") -> str:
    """The credentials as Basic auth sends them."""
    return base64.b64encode(f"{user}:{password}".encode(encoding)).decode()


PERSONAL = jwt(token_type="refresh", exp=4_000_000_000, jti="refresh-71")
ACCESS = jwt(token_type="access", exp=4_000_000_000, jti="access-72")
SECRETS = {
    "key of the environment": "sk-environment-0a1b2c3d",
    "key of the extra params": "plain-key-of-extra-params",
    "token of setup": "abcdef0123456789abcdef0123456789abcdef01",
    "personal access token": PERSONAL,
    "access token": ACCESS,
    "password of Basic auth": PASSWORD,
    "credentials": basic(USER, PASSWORD),
    "credentials in Latin-1": basic(USER, PASSWORD, "latin-1"),
    "wrong password": "given-but-wrong",
    "wrong credentials": basic(USER, "given-but-wrong"),
    "bearer of a webhook": "bearer.of.a.webhook-5",
    "signature of an address": "5f3c0ffee5f3c0ffee5f3c",
    "password in an address": "password-in-address",
    "key in a task": "sk-pasted-into-a-task-99",
    "password of the database": "p@ss/w:rd-of-db",
    "password of the database as it is written": "p%40ss%2Fw%3Ard-of-db",
}
FROM_TASKS = {"signature of an address", "password in an address", "key in a task"}
PROMPT, REPLY, DATA = "quokka-of-the-prompt", "wombat-of-the-reply", "numbat-of-the-task"


def found_in(text: str) -> set[str]:
    """The names of the secrets that the text holds."""
    return {name for name, secret in SECRETS.items() if secret in text}


def label_studio(asked: Asked) -> Page:
    """A Label Studio that has one file, takes the personal access token, and refuses all else."""
    if asked.path.startswith("/api/token/refresh"):
        return Page(json.dumps({"access": ACCESS}).encode(), "application/json")
    if asked.path.startswith("/data/upload/"):
        return Page(f"{DATA} in a file".encode(), "text/plain")
    echo = {"detail": f"{asked.headers.get('authorization')} {DATA}"}
    return Page(json.dumps(echo).encode(), "application/json", 400)


def provider(call: Call) -> Answer:
    """An LLM whose refusals repeat the key and the prompt."""
    prompt = json.dumps(call.body["messages"])
    key = call.headers.get("authorization", "")
    for status in (401, 403, 400):
        if f"refuse {status}" in prompt:
            return failure(status, f"{key} may not: {PROMPT}")
    return completion(REPLY)


class Traffic:
    """What a Label Studio and strangers send to one server."""

    def __init__(self, server: Server, stub: StubLLM) -> None:
        self.server = server
        self.stub = stub

    def post(self, path: str, body: Any, authorization: str | None = None) -> requests.Response:
        """The answer, to the right credentials by default."""
        header = f"Basic {basic(USER, PASSWORD)}" if authorization is None else authorization
        return requests.post(self.server.url + path, json=body, headers={"Authorization": header}, timeout=60)

    def setup(self, project: str = PROJECT, config: str = CLASSIFICATION, **extra_params: Any) -> None:
        """Connects a project."""
        body = {
            "project": project,
            "schema": config,
            "hostname": "http://label-studio.example",
            "access_token": SECRETS["token of setup"],
            "extra_params": json.dumps(extra_params) if extra_params else None,
        }
        self.post("/setup", body)

    def predict(
        self, data: list[str], prompt: str | None = None, project: str = PROJECT, config: str = CLASSIFICATION
    ) -> None:
        """An interactive request when there is a prompt, else a batch."""
        region = {"from_name": "prompt", "type": "textarea", "value": {"text": [prompt]}}
        body = {
            "tasks": [{"id": number, "data": {"text": text}} for number, text in enumerate(data, 1)],
            "project": project,
            "label_config": config,
            "params": {
                "login": USER,
                "password": PASSWORD,
                "context": {"result": [region]} if prompt else None,
            },
        }
        self.post("/predict", body)

    def everything(self, files: FileServer) -> None:
        """Each kind of request that brings a secret, and each way in which one may fail."""
        text = f"{DATA} {SECRETS['key in a task']}"
        secret_address = (
            f"{files.url.replace('//', '//reader:' + SECRETS['password in an address'] + '@')}/{DATA}.txt"
            f"?X-Amz-Signature={SECRETS['signature of an address']}"
        )
        self.setup()
        self.predict([text], f"{PROMPT} of {secret_address}")
        self.predict([text, f"{text} 2", f"{text} refuse 400"])
        for status in (400, 401, 403):
            self.predict([text], f"{PROMPT} refuse {status}")
        self.predict([text], "{quokka_of_the_prompt", config="<broken")
        self.predict([secret_address], PROMPT, config=OF_FILES)
        self.predict(["/data/upload/7/a.txt"], PROMPT, config=OF_FILES)
        self.predict([f"{DATA} is no address"], PROMPT, config=OF_FILES)
        self.setup("8.1", use_internal_prompt_template=False)
        self.predict([text], "{quokka_of_the_prompt}", project="8.1")
        own = {"api_key": SECRETS["key of the extra params"], "base_url": self.stub.url}
        self.setup("9.1", **own)
        self.predict([text], f"{PROMPT} refuse 403", project="9.1")
        self.setup("9.1", **own, nonsense=1)
        self.setup("10.1", **own | {"base_url": "http://127.0.0.1:1/v1"})
        self.predict([text, text + "!"], project="10.1")
        self.predict([text], PROMPT, project="10.1")
        self.post("/predict", {}, f"Basic {SECRETS['wrong credentials']}")
        self.post("/webhook", {"action": "X"}, f"Bearer {SECRETS['bearer of a webhook']}")
        token = SECRETS["token of setup"]
        requests.get(f"{self.server.url}/nowhere?access_token={token}", timeout=10)


@pytest.fixture
def log_of_everything(stub: StubLLM, tmp_path: Path) -> Callable[..., str]:
    """Runs a server, sends it everything, and gives what it wrote until its end."""

    def run(program: tuple[str, ...] = ("-m", "gunicorn", "_wsgi:app"), **variables: str) -> str:
        stub.answer = provider
        output = tmp_path / "output"
        with running() as files:
            files.answer = label_studio
            settings = {
                "OPENAI_API_KEY": SECRETS["key of the environment"],
                "BASIC_AUTH_USER": USER,
                "BASIC_AUTH_PASS": PASSWORD,
                "LABEL_STUDIO_URL": files.url,
                "LABEL_STUDIO_API_KEY": PERSONAL,
                "ALLOWED_HOSTS": "127.0.0.1",
                "LLM_MAX_RETRIES": "0",
            }
            with backend(stub.url, output, program, model_dir=None, **settings | variables) as server:
                Traffic(server, stub).everything(files)
                eventually(lambda: "Delivery for project" in output.read_text())
            assert any("/data/upload/" in asked.path for asked in files.asked)
        broken = (
            f"postgresql+psycopg://llm:{SECRETS['password of the database as it is written']}@127.0.0.1:1/x"
        )
        with backend(stub.url, output, program, model_dir=None, DATABASE_URL=broken, **variables) as server:
            Traffic(server, stub).setup()
            eventually(lambda: "PostgreSQL cannot be reached" in output.read_text())
        return output.read_text()

    return run


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_ever_logged(log_of_everything: Callable[..., str], log_format: str) -> None:
    """With prompts, replies and task data in the log, as DEBUG has them, nothing of it is a secret."""
    written = log_of_everything(LOG_LEVEL="DEBUG", LOG_FORMAT=log_format)
    assert found_in(written) == set()
    assert all(word in written for word in (PROMPT, REPLY, DATA, MASK))
    if log_format == "json":
        lines = [json.loads(line) for line in written.splitlines()]
        assert {"gunicorn.error", "llm_backend.server.app"} <= {line["logger"] for line in lines}


def test_the_secrets_come_near_the_log(log_of_everything: Callable[..., str]) -> None:
    """Without the filter the same requests do bring secrets into it; the test above can fail."""
    written = log_of_everything(("-c", UNFILTERED), LOG_LEVEL="DEBUG")
    assert found_in(written) >= FROM_TASKS | {"key of the environment", "key of the extra params"}
    assert "password of the database" not in found_in(written)  # not even then: nothing logs addresses


def test_what_people_work_on_is_not_logged_at_info(log_of_everything: Callable[..., str]) -> None:
    """Neither prompt nor reply nor task data, whatever fails; what failed is there all the same."""
    written = log_of_everything(LOG_LEVEL="INFO")
    assert [word for word in (PROMPT, "quokka", REPLY, DATA, "numbat") if word in written] == []
    assert found_in(written) == set()
    for code in ("completion_refused", "provider_authentication", "connection_failed", "task_data", "prompt"):
        assert f"outcome={code} " in written
    assert "(400)" in written
    assert "(403)" in written
    assert "Closing" not in written


def test_the_development_server_logs_the_same_way(stub: StubLLM, tmp_path: Path) -> None:
    """`python _wsgi.py` writes nothing but JSON lines, and one for a request."""
    output = tmp_path / "output"
    settings = {"LOG_FORMAT": "json", "LOG_LEVEL": "INFO"}
    with backend(stub.url, output, ("_wsgi.py",), model_dir=None, **settings) as server:
        Traffic(server, stub).setup()
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["endpoint"] for line in lines if "endpoint" in line] == ["setup"]


def test_what_nobody_catches_is_logged_without_secrets(tmp_path: Path) -> None:
    """Errors that end a thread or the process, warnings, and log calls with the wrong arguments."""
    program = f"""
import logging, threading, warnings
from llm_backend.operations import logs
from llm_backend.settings import load_settings
logs.configure(load_settings({{"OPENAI_API_KEY": "very-secret-key", "LOG_FORMAT": "json",
                              "MODEL_DIR": {str(tmp_path)!r}, "LOG_LEVEL": "DEBUG"}}, env_file=None))
def fail():
    raise ValueError("very-secret-key")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
warnings.warn("very-secret-key")
logging.getLogger("model").info("%d", "very-secret-key")
logging.getLogger("httpx2").setLevel("DEBUG")
logging.getLogger("httpx2").info("of a library")
class Broken:
    def __del__(self): fail()
Broken()
fail()
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert ended.stdout == ""
    assert "very-secret-key" not in ended.stderr
    assert len(lines) == 6
    assert [line["level"] for line in lines].count("WARNING") == 1
    assert sum("ValueError" in line.get("exception", "") for line in lines) == 3
    assert ended.returncode == 1


def request_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """The fields of the lines that say what was answered."""
    return [record.fields for record in caplog.records if record.message == "request"]  # type: ignore[attr-defined]


def test_a_line_says_what_an_interactive_request_came_to(
    make_backend: MakeApp, stub: StubLLM, caplog: pytest.LogCaptureFixture
) -> None:
    """Also when the failure is answered with 200 and a sign in the response box, or by an HTTP error."""
    caplog.set_level(logging.INFO)
    make_backend().predict(prompt="p")
    stub.answer = lambda call: failure(401)
    make_backend(SHOW_ERRORS="1").predict(prompt="other")
    make_backend().predict(prompt="third")
    good, shown, refused = request_lines(caplog)
    assert isinstance(good.pop("milliseconds"), float)
    assert good == {
        "method": "POST", "endpoint": "predict", "status": 200, "outcome": "ok", "project": PROJECT,
        "tasks": 1, "predicted": 1, "background": 0, "tokens_in": 11, "tokens_out": 5,
    }  # fmt: skip
    assert (shown["status"], shown["outcome"]) == (200, "provider_authentication")
    assert (shown["predicted"], shown["tokens_in"]) == (0, 0)
    assert (refused["status"], refused["outcome"]) == (502, "provider_authentication")
    assert "check OPENAI_API_KEY" in refused["reason"]
    assert refused["tasks"] == 1


def test_a_line_says_what_a_batch_came_to(
    make_backend: MakeApp, stub: StubLLM, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens are those paid for by the request: the second one is answered from the database."""
    caplog.set_level(logging.INFO)
    stub.answer = lambda call: (
        failure(400) if "text 2" in call.body["messages"][-1]["content"] else completion("ok")
    )
    backend = make_backend(DEFAULT_PROMPT="p")
    for several in (tasks(3), tasks(1), tasks(3)[::2], [tasks(2)[1]]):
        backend.predict(several)
    batch, one, again, failed = request_lines(caplog)
    assert [batch[name] for name in ("tasks", "predicted", "background", "outcome")] == [3, 2, 0, "ok"]
    assert (batch["tokens_in"], batch["tokens_out"]) == (22, 10)
    assert (one["predicted"], one["tokens_in"], one["outcome"]) == (1, 0, "ok")
    assert (again["predicted"], again["tokens_in"], again["tokens_out"]) == (2, 0, 0)
    assert (failed["outcome"], failed["predicted"], failed["status"]) == ("completion_refused", 0, 502)


def test_a_line_says_how_many_tasks_go_on(
    make_backend: MakeApp, stub: StubLLM, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a batch that its deadline cuts off; what was paid for by then is what has been predicted."""
    caplog.set_level(logging.INFO)
    stub.answer = lambda call: Answer(body=completion("ok").body, delay=0.1)
    make_backend(DEFAULT_PROMPT="p", PREDICT_TIMEOUT="1", MAX_CONCURRENCY="2").predict(tasks(40))
    [line] = request_lines(caplog)
    assert line["background"] > 0
    assert line["predicted"] + line["background"] == 40
    assert line["tokens_in"] >= 11 * line["predicted"]


def test_other_requests_have_a_line_with_what_they_have(
    make_backend: MakeApp, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused setup, a request without credentials, and nothing for /health and /metrics."""
    caplog.set_level(logging.INFO)
    make_backend().setup("<View/>")
    client = make_backend(BASIC_AUTH_USER="user", BASIC_AUTH_PASS="pass word").client
    client.get("/health")
    client.get("/versions")
    setup, versions = request_lines(caplog)
    assert (setup["project"], setup["status"], setup["outcome"]) == (PROJECT, 422, "labeling_config")
    assert "tasks" not in setup
    assert (versions["endpoint"], versions["outcome"]) == ("versions", "unauthorized")


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [("a1.B2_c-3:4", True), ("", False), ("a b", False), ("x" * 65, False), ('"}', False), ("é", False)],
)
def test_a_request_has_an_id(backend: Backend, given: str, is_kept: bool) -> None:
    """The sane one that came, else a new one; the answer has it, too."""
    first, second = (
        backend.client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in "12"
    )
    assert (first == given) is is_kept
    assert is_kept or first != second


def test_lines_of_a_request_have_its_id_in_other_threads_too(stub: StubLLM, tmp_path: Path) -> None:
    """What is sent to the LLM and what comes back stand under the request's id, with the task's number."""
    output = tmp_path / "output"
    with backend(stub.url, output, model_dir=None, LOG_LEVEL="DEBUG", LOG_FORMAT="json") as server:
        Traffic(server, stub).predict([DATA], PROMPT)
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    [answered] = [line for line in lines if line["message"] == "request" and line["endpoint"] == "predict"]
    mine = [line for line in lines if line.get("request_id") == answered["request_id"]]
    sent, came = (line for line in mine if line["logger"] == "llm_backend.providers.chat")
    assert PROMPT in sent["message"]
    assert "gpt-3.5-turbo" in sent["message"]
    assert (sent["task"], came["task"]) == (1, 1)


@pytest.fixture
def formatted(tmp_path: Path) -> Callable[..., str]:
    """What one log call writes, for these settings."""

    def make(message: str, *arguments: Any, exc_info: Any = None, **more: Any) -> str:
        variables = {
            "MODEL_DIR": str(tmp_path),
            "LOG_FORMAT": more.get("log_format", "text"),
            "LOG_LEVEL": more.get("level", "INFO"),
        }
        formatter = logs.make_formatter(load_settings(variables, env_file=None))
        extra = logs.with_fields(**more.get("fields", {}))
        logger = logging.getLogger("model")
        record = logger.makeRecord("model", logging.INFO, "f", 1, message, arguments, exc_info, extra=extra)
        return formatter.format(record)

    return make


def as_exc_info(*errors: Exception) -> Any:
    """The `exc_info` of the last error, which came while the first one was handled."""
    with suppress(Exception):
        try:
            raise errors[0]
        except Exception:
            raise errors[-1]  # noqa: B904 - that is what is wanted here
    return (type(errors[-1]), errors[-1], errors[-1].__traceback__)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nobody_can_forge_a_line(formatted: Callable[..., str], end: str, log_format: str) -> None:
    """Messages, fields and errors that hold an end of line stay where they are."""
    forged = f"x{end}2026-01-01T00:00:00.000+00:00 CRITICAL [1] model: forged \x1b[31m\u202e"
    line = formatted(forged, fields={"project": forged}, log_format=log_format)
    assert len(line.splitlines()) == 1
    assert line.isascii() or "\u202e" not in line
    assert "\x1b" not in line
    trace = formatted(
        "%s", forged, exc_info=as_exc_info(ValueError(forged)), log_format=log_format, level="DEBUG"
    )
    assert all(part.startswith("| ") for part in trace.splitlines()[1:])
    assert ("ValueError" in trace) is True


def test_a_traceback_says_nothing_of_what_was_worked_on(formatted: Callable[..., str]) -> None:
    """At INFO it has places and kinds of errors, and what the system says; at DEBUG everything."""
    trace = as_exc_info(OSError(28, "quokka"), ValueError("wombat"))
    at_info, at_debug = (formatted("x", exc_info=trace, level=level) for level in ("INFO", "DEBUG"))
    for text in (at_info, at_debug):
        assert "ValueError" in text
        assert "in as_exc_info" in text
    assert "No space left on device" in at_info
    assert "quokka" not in at_info
    assert "wombat" not in at_info
    assert "wombat" in at_debug


def test_a_json_line_has_what_programs_need(formatted: Callable[..., str]) -> None:
    """Time in UTC, level, logger, message, fields as keys of their own, and the traceback."""
    fields = {"project": "7.1", "tokens_in": 3, "reason": None}
    line = json.loads(
        formatted("a %s", "b", fields=fields, log_format="json", exc_info=as_exc_info(KeyError("k")))
    )
    assert time.time() - 60 < datetime.fromisoformat(line.pop("timestamp")).timestamp() < time.time() + 1
    assert "KeyError" in line.pop("exception")
    assert line.pop("process") > 0
    assert line == {"level": "INFO", "logger": "model", "message": "a b", "project": "7.1", "tokens_in": 3}


@given(
    texts=st.lists(
        st.lists(
            st.sampled_from(["a", " ", "\n", "=", ":", '"', "***", "token", "Bearer", "sk-12345678", "http://u:p@h/",
                             "password", "Authorization", PERSONAL]),
            max_size=5,
        ).map("".join),
        max_size=4,
    )
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_field_is_as_safe_as_alone(formatted: Callable[..., str], texts: list[str]) -> None:
    """One look at all fields of a line finds whatever there is in any of them, and blames no neighbour."""
    fields = {f"field{number}": text for number, text in enumerate(texts)}
    line = json.loads(formatted("a", fields=fields, log_format="json"))
    assert {name: line[name] for name in fields} == {
        name: redact(text)[:500] for name, text in fields.items()
    }


def test_an_error_may_keep_its_reason_out_of_the_log() -> None:
    """One that was stored and is raised again does: what its reason repeats is not known any more."""
    assert BackendError("reason").logged == "reason"
    assert error_of_code("completion_refused", "quotes").logged == "completion_refused"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Authorization: Basic dTpw", f"Authorization: {MASK}"),
        ("{'authorization': 'Token ab cd'}", f"{{'authorization': '{MASK}'}}"),
        ("[(b'Authorization', b'Basic dTpw')]", f"[(b'Authorization', b'{MASK}')]"),
        ("Bearer abcdef", f"Bearer {MASK}"),
        ("Basic dXNlcjpwYXNz and", f"Basic {MASK} and"),
        ("Token 0a1b2c3d4e", f"Token {MASK}"),
        ("the key sk-ab_cd-efgh.", f"the key {MASK}."),
        ("?access_token=ab&x=1", f"?access_token={MASK}&x=1"),
        ('{"api_key": "a b"}', f'{{"api_key": "{MASK}"}}'),
        (r'"{\"api_key\": \"a b\", \"n\": 1}"', rf'"{{\"api_key\": \"{MASK}\", \"n\": 1}}"'),
        ("password=hunter2, x", f"password={MASK}, x"),
        ("http://u:p@host/a/b", f"http://{MASK}@host/a/b"),
        ("postgresql+psycopg://u:p:p@h/d", f"postgresql+psycopg://{MASK}@h/d"),
        ("x://:p@/d", f"x://{MASK}@/d"),
        ("https://h/a?sv=1&sig=abc%3D x", f"https://h/a?{MASK} x"),
        (r'"http:\/\/u:p@h\/a?b"', rf'"http:\/\/{MASK}@h\/a?{MASK}"'),
        ("http%3A%2F%2Fh%3FX-Amz-Signature%3Dabc", f"http%3A%2F%2Fh%3FX-Amz-Signature%3D{MASK}"),
        (f"it is {PERSONAL}.", f"it is {MASK}."),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str, safe: str) -> None:
    """Whoever's secret it is; what stands around it can still be read."""
    assert redact(text) == safe


@pytest.mark.parametrize(
    "text",
    [
        "Basic authentication failed: token refused, make another",
        "Label Studio refused the personal access token (401): make one, and set LABEL_STUDIO_API_KEY",
        "OpenAI refused the API key (401): check OPENAI_API_KEY",
        "OpenAI cannot be reached at http://localhost:11434/v1: check the address and the network",
        "request method=POST endpoint=predict tokens_in=11 tokens_out=5 outcome=ok",
        "a desk-top task-12345678 @ home",
    ],
)
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    """Sentences of this project that name such things."""
    assert redact(text) == text


def test_known_secrets_are_hidden_in_every_spelling() -> None:
    """As they are, and as URLs, JSON and `repr` write them; very short ones would spoil other words."""
    redactor = Redactor()
    redactor.hide("pä'ss w\\rd")
    redactor.hide("abc")
    secret = "pä'ss w\\rd"
    spellings = (secret, repr(secret), repr(secret.encode()), json.dumps(secret), "p%C3%A4%27ss%20w%5Crd")
    for spelling in spellings:
        assert "w" not in redactor.redact(spelling)
    assert redactor.redact("abcdef") == "abcdef"


def test_secrets_learnt_from_strangers_are_bounded_and_the_servers_own_are_kept() -> None:
    """Thousands of keys neither fill the memory nor push out what the settings hold."""
    redactor = Redactor()
    redactor.hide("the-own-one", forever=True)
    for number in range(1500):
        redactor.hide(f"learnt-{number:05}")
    text = redactor.redact("the-own-one learnt-00001 learnt-01499")
    assert text == f"{MASK} learnt-00001 {MASK}"


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "piece",
    ["a-", "://", "api_key=", "basic ", "Bearer ", "eyJ", "authorization:", "\\", '"', "token a.", "sk-", " ",
     "api_key ", "eyJaaaaa.", "pass", ":\\\\/"],
)  # fmt: skip
def test_long_texts_are_read_in_linear_time(piece: str) -> None:
    """A megabyte that begins like secrets all over; in quadratic time this would take hours."""
    redact(piece * (1_000_000 // len(piece)))


def test_what_is_not_http_is_not_quoted(stub: StubLLM, tmp_path: Path) -> None:
    """gunicorn quotes what it cannot read, which may be a task's data after a length that is too short."""
    output = tmp_path / "output"
    with backend(stub.url, output, model_dir=None, LOG_LEVEL="INFO") as server:
        host, port = server.url.removeprefix("http://").split(":")
        for request in (f"{DATA} / HTTP/1.1\r\n\r\n", f"GET / HTTP/1.1\r\n{DATA}\r\n\r\n"):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(request.encode())
                while connection.recv(4096):
                    pass
        eventually(lambda: output.read_text().count("Invalid request from") == 2)
    assert DATA not in output.read_text()
