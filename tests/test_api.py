"""HTTP: payloads, authentication, errors, status lines, and quick answers while others wait."""

import base64
import json
import threading
from typing import Any

import pytest
import requests

from testkit.servers import backend as running_server
from testkit.stub_llm import Answer, StubLLM, completion
from tests.conftest import CLASSIFICATION, TASK, Backend, MakeApp
from tests.test_model import webhook_body

AUTH = {"BASIC_AUTH_USER": "user", "BASIC_AUTH_PASS": "pass wörd"}


def credentials(user: str, password: str) -> dict[str, str]:
    """A Basic auth header."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize("path", ["/", "/health"])
def test_health_says_up_and_what_answers(backend: Backend, path: str) -> None:
    """A JSON body with the status, the provider and the model."""
    answer = backend.client.get(path)
    assert answer.status_code == 200
    assert answer.json["status"] == "UP"
    assert answer.json["provider"] == "openai"
    assert answer.json["missing"] == []


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"OPENAI_API_KEY": ""}, "OPENAI_API_KEY"),
        ({"OPENAI_PROVIDER": "azure"}, "AZURE_RESOURCE_ENDPOINT to be set and AZURE_DEPLOYMENT_NAME"),
    ],
)
def test_a_missing_key_refuses_setup_not_the_start(
    make_backend: MakeApp, variables: dict[str, str], says: str
) -> None:
    """`/health` is UP and says what is missing; `/setup` and `/predict` are refused with that reason."""
    backend = make_backend(**variables)
    health = backend.client.get("/health")
    assert health.json["status"] == "UP"
    assert says.split()[0] in str(health.json["missing"])
    for answer in (backend.setup(), backend.predict(prompt="x")):
        assert answer.status_code == 422
        assert says in answer.status


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (CLASSIFICATION.replace('name="prompt"', 'name="other"'), "has no prompt"),
        ('<View><Audio name="a" value="$a"/><TextArea name="prompt" toName="a"/></View>', "must be the name"),
        ('<View><Text name="t" value="$t"/><TextArea name="prompt" toName="t"/></View>', "nothing to fill"),
        ("not XML", "cannot be parsed"),
        ('<!DOCTYPE v [<!ENTITY a "b">]><View>&a;</View>', "DOCTYPE"),
    ],
)  # fmt: skip
def test_a_labeling_config_that_cannot_work_is_refused(backend: Backend, config: str, says: str) -> None:
    """At `/setup` and at `/predict`, with what to add in the status line."""
    for answer in (backend.setup(config), backend.predict(prompt="x", config=config)):
        assert answer.status_code == 422
        assert says in answer.status


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook"])
@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'"x"', "application/json", 400),
        (b"NaN", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"{}", "application/json", 400),
        (b"", "application/json", 400),
        (b'{"project": 1, "tasks": 1, "action": 1}', "application/json", 400),
    ],
)
def test_bad_payloads_get_a_reason(
    backend: Backend, path: str, body: bytes, content_type: str, status: int
) -> None:
    """400 or 415, never a traceback."""
    answer = backend.client.post(path, data=body, content_type=content_type)
    assert answer.status_code == status
    assert answer.json["error"]["reason"]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": [1]},
        {"tasks": [{"id": 1}]},
        {"tasks": [{"data": []}]},
        {"tasks": None},
        {"label_config": 5},
        {"params": []},
        {"params": {"context": "x"}},
        {"tasks": [TASK, TASK], "params": {"context": {"result": []}}},
    ],
)
def test_predict_names_the_field_that_is_wrong(backend: Backend, change: dict[str, Any]) -> None:
    """One wrong field, one sentence."""
    body = {"tasks": [TASK], "project": "1.2", "label_config": CLASSIFICATION, "params": {}} | change
    answer = backend.client.post("/predict", json=body)
    assert answer.status_code == 400
    assert any(name in answer.status for name in ("tasks", "label_config", "params", "interactive"))


def test_halves_of_surrogate_pairs_do_no_harm(backend: Backend, stub: StubLLM) -> None:
    """They are legal in JSON, and cannot be sent or stored."""
    half, pair = "\ud800", "\ud83d\ude00"
    body = {
        "tasks": [{"id": 1, "data": {"text": f"a{half}b"}}],
        "project": "1.2",
        "label_config": CLASSIFICATION,
        "params": {"context": {"result": [{"from_name": "prompt", "value": {"text": [f"p{pair}{half}"]}}]}},
    }
    answer = backend.client.post("/predict", data=json.dumps(body), content_type="application/json")
    assert answer.status_code == 200
    assert stub.prompts == [
        "Source Text: a\N{REPLACEMENT CHARACTER}b\n\nTask Directive: p😀\N{REPLACEMENT CHARACTER}"
    ]


def test_basic_auth_covers_all_but_health_and_webhook(make_backend: MakeApp) -> None:
    """Wrong, half or no credentials get 401 with a challenge."""
    client = make_backend(**AUTH).client
    bad: list[dict[str, str]] = [
        {},
        credentials("user", "wrong"),
        credentials("other", "pass wörd"),
        credentials("", ""),
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer pass"},
        {"Authorization": "Basic " + base64.b64encode(b"user").decode()},
    ]
    for headers in bad:
        for path in ("/", "/versions", "/metrics", "/nowhere"):
            assert client.get(path, headers=headers).status_code == 401
        for path in ("/setup", "/predict"):
            answer = client.post(path, headers=headers, json={})
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic")
        assert client.get("/health", headers=headers).status_code == 200
    assert client.get("/", headers=credentials("user", "pass wörd")).status_code == 200


@pytest.mark.parametrize(
    ("variables", "headers", "remembered"),
    [
        ({}, {}, True),
        (AUTH, {}, False),
        (AUTH, credentials("user", "wrong"), False),
        (AUTH, credentials("user", "pass wörd"), True),
        (AUTH | {"WEBHOOK_UPDATES_PROMPT": "1"}, {}, True),
        ({"WEBHOOK_UPDATES_PROMPT": "0"}, {}, False),
        (AUTH | {"WEBHOOK_UPDATES_PROMPT": "0"}, credentials("user", "pass wörd"), True),
    ],
)
def test_who_may_change_a_prompt_by_webhook(
    make_backend: MakeApp, variables: dict[str, str], headers: dict[str, str], remembered: bool
) -> None:
    """Everybody without Basic auth; with it, those who know it, unless a setting says otherwise."""
    backend = make_backend(**variables)
    right = credentials("user", "pass wörd")
    body = {"project": "7.1795440473", "schema": CLASSIFICATION}
    assert backend.client.post("/setup", json=body, headers=right).status_code == 200
    before = backend.client.get("/versions", headers=right).json
    assert backend.client.post("/webhook", json=webhook_body("p"), headers=headers).status_code == 201
    after = backend.client.get("/versions", headers=right).json
    assert (before != after) is remembered


def test_versions_are_those_of_the_known_projects(backend: Backend) -> None:
    """Label Studio's model page asks without saying for which project."""
    assert backend.client.get("/versions").json == {"versions": []}
    version = backend.setup().json["model_version"]
    assert backend.client.get("/versions").json == {"versions": [version]}


def test_unknown_paths_and_methods_answer_json(backend: Backend) -> None:
    """With a code and a reason like every error."""
    assert backend.client.get("/nowhere").json["error"]["code"] == "not_found"
    assert backend.client.get("/predict").json["error"]["code"] == "method_not_allowed"


def test_an_unexpected_error_keeps_its_traceback_in_the_log(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client gets a sentence; the log gets the rest."""
    monkeypatch.setattr(type(backend.services.projects), "get", lambda *_: 1 / 0)
    answer = backend.predict(prompt="x")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert "ZeroDivisionError" in caplog.text


def test_a_reason_with_any_characters_fits_the_status_line(make_backend: MakeApp) -> None:
    """One line of printable ASCII, at most 200 characters; the body has it all."""
    backend = make_backend(USE_INTERNAL_PROMPT_TEMPLATE="0")
    answer = backend.predict(prompt="{naïve} {" + "x" * 300 + "} {日本}")
    phrase = answer.status.partition(" ")[2]
    assert answer.status_code == 422
    assert len(phrase) <= 200
    assert phrase.isascii()
    assert phrase.isprintable()
    assert "{日本}" in answer.json["error"]["reason"]


def test_a_request_that_is_too_large_is_refused(stub: StubLLM) -> None:
    """Who sends it is told so once all of it is sent, whether its length is announced or not."""
    body = b'{"tasks": [' + b" " * 3_000_000 + b"]}"
    with running_server(stub.url, MAX_REQUEST_BYTES="1000") as server:
        for data in (body, iter([body[:2_000_000], body[2_000_000:]])):
            answer = requests.post(
                server.url + "/predict", data=data, headers={"Content-Type": "application/json"}, timeout=30
            )
            assert answer.status_code == 413
            assert "raise MAX_REQUEST_BYTES" in answer.reason
            assert answer.json()["error"]["code"] == "request_too_large"
        assert server.get("/health")["status"] == "UP"


@pytest.mark.parametrize("path", ["/", "/health", "/predict", "/nowhere", "/metrics"])
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_browsers_are_told_what_not_to_do(backend: Backend, path: str, accept: str) -> None:
    """No answer is framed by another site, kept, taken for another type, or runs what it was not sent."""
    headers = backend.client.get(path, headers={"Accept": accept}).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_metrics_count_what_happened(backend: Backend) -> None:
    """Requests, completions and tokens, as Prometheus reads them."""
    backend.predict(prompt="x")
    text = backend.client.get("/metrics").text
    assert 'llm_backend_requests_total{endpoint="predict",status="200"} 1.0' in text
    assert 'llm_backend_completions_total{outcome="succeeded",provider="openai"} 1.0' in text
    assert 'llm_backend_tokens_total{direction="in",provider="openai"} 11.0' in text


def test_some_threads_are_kept_for_quick_requests(make_backend: MakeApp, stub: StubLLM) -> None:
    """Who comes when all places are taken is told at once, where a person sees it; `/setup` still answers."""
    release, waiting = threading.Event(), threading.Semaphore(0)

    def hang(call: object) -> Answer:
        waiting.release()
        release.wait(10)
        return completion("ok")

    stub.answer = hang
    backend = make_backend(THREADS="4", SHOW_ERRORS="1")
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda prompt=f"prompt {number}": answers.append(
                backend.predict(prompt=prompt).status_code
            )
        )
        for number in range(3)
    ]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert waiting.acquire(timeout=10)
    try:
        shown = backend.predict(prompt="x").json["results"][0]["result"]
        assert any("The server is busy" in str(region["value"]) for region in shown)
        assert backend.predict([TASK, TASK]).json == {"results": [[], []]}  # there is no prompt: quick
        assert backend.setup().status_code == 200
    finally:
        release.set()
        for thread in threads:
            thread.join()
    assert answers == [200, 200, 200]
