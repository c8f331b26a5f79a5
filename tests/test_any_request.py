"""Whatever is sent to whichever endpoint, the answer is a 2xx or a 4xx with JSON in it, and it comes."""

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import CLASSIFICATION, PROJECT, TASK, Backend, MakeApp
from tests.test_model import webhook_body

VALID: list[tuple[str, dict[str, Any]]] = [
    (
        "/setup",
        {
            "project": PROJECT,
            "schema": CLASSIFICATION,
            "hostname": "http://127.0.0.1:8080",
            "access_token": "a" * 40,
            "extra_params": {"temperature": 0.5, "num_responses": 2, "default_prompt": "Is {text} good?"},
        },
    ),
    (
        "/predict",
        {
            "tasks": [TASK, {"id": 2, "data": {"text": ["a", {"author": "user", "text": "b"}]}}],
            "project": PROJECT,
            "label_config": CLASSIFICATION,
            "params": {"login": None, "password": None, "context": None},
        },
    ),
    (
        "/predict",
        {
            "tasks": [TASK],
            "project": PROJECT,
            "label_config": CLASSIFICATION,
            "params": {
                "context": {
                    "result": [
                        {"id": "a", "from_name": "prompt", "to_name": "text", "type": "textarea",
                         "value": {"text": ["Is it {text}?"]}},
                        {"id": "b", "from_name": "sentiment", "to_name": "text", "type": "choices",
                         "value": {"choices": ["Sarcastic"]}},
                    ]
                }
            },
        },
    ),
    ("/webhook", webhook_body("Say {text}")),
]  # fmt: skip
PATHS = ["/", "/health", "/setup", "/predict", "/webhook", "/versions", "/jobs", "/jobs/1", "/metrics", "/x"]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
NUMBERS = st.integers() | st.floats() | st.sampled_from([-1, 2**31, 2**63, 2**64, 10**400])
TEXTS = st.text(max_size=40) | st.sampled_from(
    ["\0", "\ud800", "${", "{text}", "{{", "7.1", "<View/>", "<View><Text name='a' value='$a'/></View>",
     "<!DOCTYPE a [<!ENTITY b 'c'>]><View>&b;</View>", "http://169.254.169.254/", "file:///etc/passwd",
     "9" * 5000, "\r\nSet-Cookie: a=b", "\u202e", "data:text/plain;base64,eA=="]
)  # fmt: skip
ANY_JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def places_in(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of each value within a JSON value, itself included."""
    found = [place]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places_in(inner, (*place, key))
    return found


def replaced(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A copy of the JSON value with something else at the place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = replaced(value[place[0]], place[1:], new)
    return copy


@st.composite
def nearly_valid_requests(draw: st.DrawFn) -> tuple[str, Any]:
    """A path, and a body that Label Studio might send, with other values in one or two places."""
    path, body = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(1, 2))):
        body = replaced(body, draw(st.sampled_from(places_in(body))), draw(ANY_JSON))
    return path, body


@pytest.fixture
def strict_backend(make_backend: MakeApp, stub: Any) -> Backend:
    """A backend of which nothing leaves: every provider's address is the stub's."""
    return make_backend(
        OLLAMA_ENDPOINT=stub.url, SHOW_ERRORS="1", LLM_MAX_RETRIES="0", FETCH_TIMEOUT="1", LOG_LEVEL="ERROR"
    )


def check(answer: Any) -> None:
    """It is no 5xx, and an error says its code and its reason."""
    assert 200 <= answer.status_code < 500, answer.text
    if answer.status_code >= 400 and answer.text:
        assert answer.json["error"].keys() == {"code", "reason"}


MANY = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@MANY
@given(request=nearly_valid_requests())
def test_a_nearly_valid_request(strict_backend: Backend, request: tuple[str, Any]) -> None:
    """One wrong value in a request of Label Studio's is answered as what it is."""
    path, body = request
    check(strict_backend.client.post(path, data=json.dumps(body), content_type="application/json"))


@MANY
@given(method=st.sampled_from(METHODS), path=st.sampled_from(PATHS), body=ANY_JSON)
def test_any_json(strict_backend: Backend, method: str, path: str, body: Any) -> None:
    """Any JSON at any endpoint by any method."""
    check(
        strict_backend.client.open(
            path, method=method, data=json.dumps(body), content_type="application/json"
        )
    )


@MANY
@given(
    path=st.sampled_from(["/setup", "/predict", "/webhook"]),
    body=st.binary(max_size=200) | st.sampled_from([b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000]),
    content_type=st.sampled_from(["application/json", "application/json; charset=latin-1", "text/plain", ""]),
)
def test_any_bytes(strict_backend: Backend, path: str, body: bytes, content_type: str) -> None:
    """What is not JSON is refused."""
    answer = strict_backend.client.post(path, data=body, content_type=content_type)
    check(answer)
    assert answer.status_code >= 400


@MANY
@given(
    path=st.text(max_size=60).map(lambda path: "/" + quote(path)),
    query=st.text(max_size=60),
    name=st.sampled_from(["Authorization", "Accept", "Content-Type", "X-Request-ID", "Content-Length"]),
    value=st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=60),
)
def test_any_address_and_header(
    strict_backend: Backend, path: str, query: str, name: str, value: str
) -> None:
    """Any path, query string and header, as gunicorn lets them through."""
    check(strict_backend.client.get(path, query_string=query, headers={name: value}))
