"""Providers, against a real HTTP server on loopback; a toy one is registered from here."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from llm_backend import errors
from llm_backend.operations.metrics import Metrics
from llm_backend.parameters import load_settings, missing_settings, parse_extra_params, resolve_parameters
from llm_backend.providers import PROVIDERS
from llm_backend.providers.clients import Providers
from llm_backend.providers.openai import OpenAI
from llm_backend.settings import ExtraParams, Settings
from llm_backend.values import Completion, CompletionRequest, Endpoint, Message, Reply
from testkit.stub_llm import Answer, Call, StubLLM, completion, failure

REQUEST = CompletionRequest("gpt-x", (Message("user", "hi"),), temperature=0.5)
USAGE = {"prompt_tokens": 11, "completion_tokens": 5}
Ask = Callable[..., Completion]


def texts(completion: Completion) -> tuple[str, ...]:
    """What the replies say."""
    return tuple(reply.text for reply in completion.replies)


@pytest.fixture
def ask(stub: StubLLM) -> Iterator[Ask]:
    """Asks the stub; keyword arguments change the request, the endpoint or the limits."""
    opened: list[Providers] = []

    def ask(
        num_replies: int = 1,
        *,
        endpoint: Endpoint | None = None,
        providers: Providers | None = None,
        timeout: float = 5,
        max_retries: int = 2,
        allowed_hosts: tuple[str, ...] = (),
    ) -> Completion:
        if providers is None:
            providers = Providers(
                Metrics(), timeout=timeout, max_retries=max_retries, allowed_hosts=allowed_hosts
            )
            opened.append(providers)
        request = CompletionRequest("gpt-x", REQUEST.messages, 0.5, num_replies)
        return providers.complete(endpoint or Endpoint("openai", stub.url, "sk-secret"), request)

    yield ask
    for providers in opened:
        providers.close()


@pytest.fixture
def kept(ask: Ask) -> Iterator[Providers]:
    """Providers that last for the whole test."""
    providers = Providers(Metrics(), timeout=5, max_retries=2)
    yield providers
    providers.close()


def test_openai_is_asked_with_model_messages_temperature_and_key(stub: StubLLM, ask: Ask) -> None:
    """The stub sees just what was asked for, and no `n` for one reply."""
    assert ask() == Completion((Reply("Sarcastic"),), prompt_tokens=11, completion_tokens=5)
    [call] = stub.calls
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == "Bearer sk-secret"
    assert call.body == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
    }


def test_azure_is_asked_at_its_deployment_with_the_api_version(stub: StubLLM, ask: Ask) -> None:
    """Azure gets its path, its query and its `api-key` header."""
    root = stub.url.removesuffix("/v1")
    ask(endpoint=Endpoint("azure", root, "az-key", deployment_name="mine", api_version="2023-05-15"))
    [call] = stub.calls
    assert call.path == "/openai/deployments/mine/chat/completions?api-version=2023-05-15"
    assert call.headers["api-key"] == "az-key"
    assert "authorization" not in call.headers


def test_the_environment_of_the_openai_package_is_not_used(
    stub: StubLLM, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its key nor its address or token goes anywhere."""
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"):
        monkeypatch.setenv(name, "sk-environment")
    for name in ("OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    ask()
    root = stub.url.removesuffix("/v1")
    ask(endpoint=Endpoint("azure", root, "az-key", deployment_name="mine", api_version="1"))
    assert all("sk-environment" not in value for call in stub.calls for value in call.headers.values())


def test_a_client_and_its_connection_are_reused(stub: StubLLM, kept: Providers, ask: Ask) -> None:
    """Ten questions one after the other need one connection."""
    accepted: list[object] = []
    stub.answer = lambda call: accepted.append(threading.current_thread()) or completion("ok")  # type: ignore[func-returns-value]
    for _ in range(10):
        ask(providers=kept)
    assert len(set(map(id, accepted))) == 1


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (
            "Unsupported value: 'temperature' does not support 0.5 with this model.",
            {"param": "temperature", "code": "unsupported_value"},
        ),
        ("temperature is deprecated for this model", {}),
    ],
)
def test_a_refused_temperature_is_left_out_and_remembered(
    stub: StubLLM, kept: Providers, ask: Ask, message: str, error: dict[str, Any]
) -> None:
    """The model is asked again without it, and the next time at once without it."""
    stub.answer = lambda call: (
        failure(400, message, **error) if "temperature" in call.body else completion("ok")
    )
    assert texts(ask(providers=kept)) == ("ok",)
    assert texts(ask(providers=kept)) == ("ok",)
    assert ["temperature" in call.body for call in stub.calls] == [True, False, False]


def test_n_is_used_where_it_is_honoured(stub: StubLLM, ask: Ask) -> None:
    """Three replies cost one call."""
    stub.says(completion("a", "b", "c"))
    assert texts(ask(3)) == ("a", "b", "c")
    assert [call.body["n"] for call in stub.calls] == [3]


@pytest.mark.parametrize("refusal", ["error", "one choice"])
def test_where_n_is_not_honoured_replies_are_asked_for_side_by_side(
    stub: StubLLM, kept: Providers, ask: Ask, refusal: str
) -> None:
    """Whether `n` is refused or ignored: all replies come, at the same time, and it is remembered."""
    together = threading.Barrier(3)

    def answer(call: Call) -> Answer:
        if "n" in call.body and refusal == "error":
            return failure(400, "Field 'n': Value must be between 1 <= value <= 1, but got 4")
        alone = sum("n" not in earlier.body for earlier in stub.calls)
        if "n" not in call.body and alone > (refusal == "error"):
            together.wait(timeout=5)
        return completion("ok")

    stub.answer = answer
    assert texts(ask(4, providers=kept)) == ("ok",) * 4
    calls = len(stub.calls)
    stub.answer = lambda call: completion("again")
    assert texts(ask(4, providers=kept)) == ("again",) * 4
    assert [call.body.get("n") for call in stub.calls[calls:]] == [None] * 4


def test_ollama_is_asked_one_by_one_from_the_start(stub: StubLLM, ask: Ask) -> None:
    """Ollama gives one reply whatever `n` says, so it is never sent."""
    assert len(ask(3, endpoint=Endpoint("ollama", stub.url, "ollama")).replies) == 3
    assert [call.body.get("n") for call in stub.calls] == [None] * 3


def test_one_failed_reply_of_several_does_not_lose_the_others(stub: StubLLM, ask: Ask) -> None:
    """What was paid for is kept."""
    stub.says("first", failure(400, "no"), "third")
    assert len(ask(3, endpoint=Endpoint("ollama", stub.url, "ollama")).replies) == 2


@pytest.mark.parametrize(
    ("answer", "kind", "says", "calls"),
    [
        (failure(401, "Incorrect API key provided: sk-secret"), errors.AuthenticationFailedError,
         "OpenAI refused the API key (401): check OPENAI_API_KEY", 1),
        (failure(403, "Country not supported"), errors.AuthenticationFailedError, "Country not supported", 1),
        (failure(404, "The model does not exist", code="model_not_found"), errors.ModelNotFoundError,
         "does not know the model gpt-x", 1),
        (failure(429, "You exceeded your current quota", code="insufficient_quota"),
         errors.QuotaExhaustedError, "billing", 1),
        (failure(400, "The response was filtered", code="content_filter"), errors.ContentFilteredError,
         "content filter", 1),
        (failure(400, "maximum context length is 8192 tokens"), errors.CompletionRefusedError,
         "maximum context length is 8192 tokens", 1),
        (failure(422, "nonsense"), errors.CompletionRefusedError, "(422)", 1),
        (failure(500, "boom"), errors.ProviderDownError, "failed on its side (500)", 3),
        (failure(503, "overloaded"), errors.ProviderDownError, "(503)", 3),
        (Answer(307, {}, {"Location": "http://127.0.0.1:9/"}), errors.CompletionRefusedError, "redirects", 1),
        (Answer(reset=True), errors.ConnectionFailedError, "broke off", 3),
        (Answer(body=completion("cut").body, end="middle"), errors.ConnectionFailedError, "broke off", 3),
        (Answer(raw=b"<p>", headers={"Content-Type": "text/html"}), errors.UnusableReplyError, "not a", 1),
        (Answer(raw=b'{"half": '), errors.UnusableReplyError, "not a chat", 1),
        (Answer(body={"error": {"message": "x"}}), errors.UnusableReplyError, "not a chat", 1),
        (completion(""), errors.UnusableReplyError, "empty reply", 1),
        (completion(None, finish_reason="content_filter"), errors.ContentFilteredError, "withheld", 1),
    ],
)  # fmt: skip
def test_every_fault_is_an_error_of_our_own_that_says_what_to_do(
    stub: StubLLM, ask: Ask, answer: Answer, kind: type[errors.CompletionError], says: str, calls: int
) -> None:
    """Its class, its sentence, no key in it, and only what may pass is tried again."""
    stub.says(answer)
    with pytest.raises(kind) as caught:
        ask()
    assert type(caught.value) is kind
    assert says.lower() in caught.value.reason.lower()
    assert "sk-secret" not in caught.value.reason
    assert len(stub.calls) == calls


@pytest.mark.parametrize(
    "body",
    [
        {"choices": 5},
        {"choices": [7]},
        {"choices": [{"message": 7}]},
        {"choices": [{"message": {"content": 7}}]},
        {"choices": [{"message": {"content": "paid"}, "logprobs": {"content": 7}}]},
    ],
)
def test_an_answer_with_wrong_types_is_a_fault_of_the_endpoint(
    stub: StubLLM, ask: Ask, caplog: pytest.LogCaptureFixture, body: dict[str, Any]
) -> None:
    """It is said in a sentence, and no traceback per task fills the log."""
    stub.says(Answer(body=body))
    with pytest.raises(errors.UnusableReplyError, match="not a chat completion"):
        ask()
    assert "Unexpected" not in caplog.text


def test_retries_stop_at_the_first_success(stub: StubLLM, ask: Ask) -> None:
    """A provider that is down for a moment costs no more than it must."""
    stub.says(failure(500), "ok", "never")
    assert texts(ask()) == ("ok",)
    assert len(stub.calls) == 2


@pytest.mark.parametrize("headers", [{"Retry-After": "1"}, {"retry-after-ms": "1000"}])
def test_a_rate_limit_is_waited_for_as_long_as_it_says(
    stub: StubLLM, ask: Ask, headers: dict[str, str]
) -> None:
    """The second call comes no sooner than the header says, however many retries are allowed."""
    times: list[float] = []

    def answer(call: Call) -> Answer:
        times.append(time.monotonic())
        return failure(429, headers=headers) if len(times) == 1 else completion("ok")

    stub.answer = answer
    assert texts(ask(max_retries=0)) == ("ok",)
    assert times[1] - times[0] >= 1


def test_a_rate_limit_longer_than_the_time_left_fails_at_once(stub: StubLLM, ask: Ask) -> None:
    """Nobody waits for what cannot come; the error carries the seconds."""
    stub.says(failure(429, headers={"Retry-After": "3600"}))
    with pytest.raises(errors.RateLimitedError) as caught:
        ask()
    assert caught.value.retry_after == 3600
    assert len(stub.calls) == 1


def test_a_timeout_is_not_tried_again(stub: StubLLM, ask: Ask) -> None:
    """A completion that takes too long would be paid for twice."""
    stub.says(Answer(delay=1.5, body={}))
    with pytest.raises(errors.CompletionTimeoutError, match="LLM_TIMEOUT"):
        ask(timeout=0.3)
    assert len(stub.calls) == 1


@pytest.mark.parametrize("for_batch", [False, True])
@pytest.mark.parametrize(
    ("start", "byte"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b" "),
        (b"HTTP/1.1 200 OK\r\nX-Endless: ", b"x"),
    ],
    ids=["body", "headers"],
)
def test_an_answer_that_trickles_in_forever_ends_at_the_timeout(
    start: bytes, byte: bytes, for_batch: bool
) -> None:
    """The time is for the whole answer, not for each of its bytes."""
    providers = Providers(Metrics(), timeout=2, max_retries=0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        stop = threading.Event()

        def trickle() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(start)
                while not stop.wait(0.05):
                    try:
                        connection.sendall(byte)
                    except OSError:
                        return

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            started = time.monotonic()
            endpoint = Endpoint("openai", f"http://127.0.0.1:{listener.getsockname()[1]}/v1", "k")
            complete = providers.complete_for_batch if for_batch else providers.complete
            with pytest.raises(errors.CompletionTimeoutError):
                complete(endpoint, REQUEST)
            assert time.monotonic() - started < 5
        finally:
            stop.set()
            thread.join()
            providers.close()


def test_an_answer_of_gigabytes_is_cut_off(stub: StubLLM, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than any completion needs is an error, not a full memory, and is not asked for again."""
    monkeypatch.setattr("llm_backend.providers.http.MAX_ANSWER_BYTES", 100_000)
    stub.says(Answer(raw=b" " * 1_000_000))
    with pytest.raises(errors.UnusableReplyError, match="far more"):
        ask()
    assert len(stub.calls) == 1


def test_a_small_answer_that_unpacks_to_gigabytes_is_cut_off(stub: StubLLM, ask: Ask) -> None:
    """What is counted is what it takes in memory: 64 MB come as 64 kB."""
    stub.says(Answer(raw=gzip.compress(b" " * 64_000_000), headers={"Content-Encoding": "gzip"}))
    tracemalloc.start()
    try:
        with pytest.raises(errors.UnusableReplyError, match="far more"):
            ask()
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_a_packed_answer_is_unpacked(stub: StubLLM, ask: Ask) -> None:
    """Gateways pack what they pass on; gzip is what they are told we read."""
    packed = gzip.compress(json.dumps(completion("yes").body).encode())
    stub.says(Answer(raw=packed, headers={"Content-Encoding": "gzip"}))
    assert texts(ask()) == ("yes",)
    assert stub.calls[0].headers["accept-encoding"] == "gzip"


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip"])
def test_an_answer_that_cannot_be_unpacked_is_no_completion(stub: StubLLM, ask: Ask, encoding: str) -> None:
    """It has been paid for, so it is not asked for again."""
    stub.says(Answer(raw=b"\x07nonsense", headers={"Content-Encoding": encoding}))
    with pytest.raises(errors.UnusableReplyError, match="not a chat completion"):
        ask()
    assert len(stub.calls) == 1


def test_nobody_listening_is_a_connection_error(ask: Ask) -> None:
    """The sentence names the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    with pytest.raises(errors.ConnectionFailedError, match=r"127\.0\.0\.1"):
        ask(endpoint=Endpoint("openai", url, "k"), max_retries=0)


def test_an_address_that_a_project_chose_is_checked_before_connecting(stub: StubLLM, ask: Ask) -> None:
    """A private address is reached only when ALLOWED_HOSTS names it."""
    endpoint = Endpoint("openai", stub.url, "k", from_project=True)
    with pytest.raises(errors.BackendError, match="ALLOWED_HOSTS"):
        ask(endpoint=endpoint)
    assert not stub.calls
    assert texts(ask(endpoint=endpoint, allowed_hosts=("127.0.0.1",))) == ("Sarcastic",)
    assert stub.calls[0].headers["host"] == stub.url.split("/")[2]


def test_thoughts_before_the_reply_are_left_out(stub: StubLLM, ask: Ask) -> None:
    """A reasoning model's thoughts are not its answer."""
    stub.says("<think>Sarcastic? Not Sarcastic?\n</think>\n\nSarcastic")
    assert texts(ask()) == ("Sarcastic",)


def test_no_secret_is_in_the_repr_of_an_endpoint() -> None:
    """An endpoint can be logged."""
    assert "sk-secret" not in repr(Endpoint("openai", "http://x", "sk-secret"))


def test_the_embedded_model_answers(kept: Providers) -> None:
    """llama.cpp runs in this process, on loopback, and gives as many replies as asked for."""
    pytest.importorskip("xllamacpp", reason="the embedded model is not installed")
    parameters = resolve_parameters(load_settings({"OPENAI_PROVIDER": "embedded"}, None))
    providers = Providers(Metrics(), timeout=50, max_retries=0)
    try:
        request = CompletionRequest(parameters.model, (Message("user", "Say yes."),), 0.0, 2)
        assert len(providers.complete(parameters.endpoint, request).replies) == 2
    finally:
        providers.close()


def test_an_embedded_model_that_cannot_be_loaded_is_an_error_of_our_own(tmp_path: object, ask: Ask) -> None:
    """A file that is no model says so."""
    pytest.importorskip("xllamacpp", reason="the embedded model is not installed")
    broken = f"{tmp_path}/broken.gguf"
    with open(broken, "w") as file:
        file.write("not a model")
    with pytest.raises(errors.ConnectionFailedError, match="cannot be loaded"):
        ask(endpoint=Endpoint("embedded", model_path=broken), max_retries=0)


SCHEMA = {"type": "json_schema", "json_schema": {"name": "labels_1", "strict": True, "schema": {}}}
JSON_OBJECT = {"type": "json_object"}


def asked_formats(stub: StubLLM) -> list[Any]:
    """The response format of every call, in order."""
    return [call.body.get("response_format") for call in stub.calls]


def structured(
    providers: Providers, stub: StubLLM, *, name: str = "labels_1", model: str = "gpt-x"
) -> Completion:
    """A completion that was asked for with a schema."""
    schema = {"type": "json_schema", "json_schema": {**SCHEMA["json_schema"], "name": name}}  # type: ignore[dict-item]
    request = CompletionRequest(model, REQUEST.messages, 0.5, response_format=schema, logprobs=True)
    return providers.complete(Endpoint("openai", stub.url, "sk-secret"), request)


def test_a_schema_and_logprobs_are_asked_for(stub: StubLLM, kept: Providers) -> None:
    """They reach the endpoint as they are."""
    structured(kept, stub)
    [call] = stub.calls
    assert call.body["response_format"] == SCHEMA
    assert call.body["logprobs"] is True


@pytest.mark.parametrize(
    "refusal",
    [
        failure(400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported.",
                param="response_format"),
        failure(400, "response_format value as json_schema is enabled only for api versions 2024-08-01"),
        failure(400, "This response_format type is unavailable now"),
        failure(422, "body.response_format.type: Input should be 'text' or 'json_object'"),
        Answer(422, {"detail": [{"loc": ["body", "response_format", "type"], "msg": "should be 'text'"}]}),
        failure(501, "json_schema is not implemented"),
    ],
)  # fmt: skip
def test_where_a_schema_is_not_known_any_json_is_asked_for_and_that_is_remembered(
    stub: StubLLM, kept: Providers, refusal: Answer
) -> None:
    """For that model, with any schema, and not for another model."""
    stub.answer = lambda call: (
        refusal if call.body.get("response_format", JSON_OBJECT) != JSON_OBJECT else completion("{}")
    )
    assert texts(structured(kept, stub)) == ("{}",)
    structured(kept, stub, name="labels_2")
    assert asked_formats(stub) == [SCHEMA, JSON_OBJECT, JSON_OBJECT]
    structured(kept, stub, model="other")
    assert asked_formats(stub)[3:] == [SCHEMA, JSON_OBJECT]


def test_where_no_json_is_known_text_is_asked_for(stub: StubLLM, kept: Providers) -> None:
    """The last resort is a plain reply."""
    unknown = failure(400, "Unrecognized request argument supplied: response_format")
    stub.answer = lambda call: unknown if "response_format" in call.body else completion("Sarcastic")
    assert texts(structured(kept, stub)) == ("Sarcastic",)
    structured(kept, stub)
    assert asked_formats(stub) == [SCHEMA, JSON_OBJECT, None, None]


@pytest.mark.parametrize("status", [400, 500])
def test_a_schema_that_cannot_be_used_is_left_out_alone(stub: StubLLM, kept: Providers, status: int) -> None:
    """Another project's schema is still asked for."""
    too_large = failure(status, "Invalid schema for response_format 'labels_1': too many enum values")
    stub.answer = lambda call: too_large if call.body.get("response_format") == SCHEMA else completion("{}")
    for name in ("labels_1", "labels_1", "labels_2"):
        structured(kept, stub, name=name)
    asked = [item["json_schema"]["name"] if "json_schema" in item else "any" for item in asked_formats(stub)]
    assert asked == ["labels_1", "any", "any", "labels_2"]


@pytest.mark.parametrize(
    "refusal",
    [
        failure(403, "You are not allowed to request logprobs from this model"),
        failure(400, "'logprobs' is not supported with this model.", param="logprobs"),
        failure(400, "Unrecognized request argument supplied: logprobs"),
    ],
)
def test_logprobs_that_are_refused_are_left_out(stub: StubLLM, kept: Providers, refusal: Answer) -> None:
    """The schema stays, and the refusal is remembered."""
    stub.answer = lambda call: refusal if "logprobs" in call.body else completion("{}")
    structured(kept, stub)
    structured(kept, stub)
    assert ["logprobs" in call.body for call in stub.calls] == [True, False, False]
    assert asked_formats(stub) == [SCHEMA] * 3


def test_several_refusals_end_in_a_plain_request(stub: StubLLM, kept: Providers) -> None:
    """A model that refuses everything is asked with nothing but its messages."""

    def answer(call: Call) -> Answer:
        for name in ("temperature", "logprobs", "response_format"):
            if name in call.body:
                return failure(400, f"Unsupported parameter: '{name}'", param=name)
        return completion("Sarcastic")

    stub.answer = answer
    assert texts(structured(kept, stub)) == ("Sarcastic",)
    assert set(stub.calls[-1].body) == {"model", "messages"}


def test_other_errors_are_not_taken_for_a_refused_format(stub: StubLLM, kept: Providers) -> None:
    """A broken server is tried again, and a filter stays a filter."""
    stub.says(failure(400, "filtered", code="content_filter"))
    with pytest.raises(errors.ContentFilteredError):
        structured(kept, stub)
    assert len(stub.calls) == 1


def test_tokens_come_with_the_reply(stub: StubLLM, kept: Providers) -> None:
    """Their texts make the reply; the bytes of one character in two tokens are put together."""
    body = completion("é!").body or {}
    body["choices"][0]["logprobs"] = {
        "content": [
            {"token": "\\xc3", "logprob": -0.5, "bytes": [0xC3], "top_logprobs": []},
            {"token": "\\xa9", "logprob": -0.25, "bytes": [0xA9], "top_logprobs": []},
            {"token": "!", "logprob": -1.0, "bytes": None, "top_logprobs": []},
        ]
    }
    stub.says(Answer(body=body))
    assert structured(kept, stub).replies == (Reply("é!", (("é", -0.75), ("!", -1.0))),)


@pytest.mark.parametrize(
    "refusal",
    [
        failure(400, "Unsupported value: 'messages[0].role' does not support 'system' with this model."),
        failure(400, "System role not supported"),
        failure(500, "Conversation roles must alternate user/assistant/user/assistant/..."),
    ],
)
def test_where_system_messages_are_refused_they_begin_the_prompt(
    stub: StubLLM, kept: Providers, refusal: Answer
) -> None:
    """What is added about the controls costs no answer that the prompt alone would have had."""
    request = CompletionRequest("gpt-x", (Message("system", "As JSON"), Message("user", "hi")), 0.5)
    stub.answer = lambda call: refusal if call.body["messages"][0]["role"] == "system" else completion("{}")
    for _ in range(2):
        kept.complete(Endpoint("openai", stub.url, "sk-secret"), request)
    assert [[m["role"] for m in call.body["messages"]] for call in stub.calls] == [
        ["system", "user"],
        ["user"],
        ["user"],
    ]
    assert stub.prompts[-1] == "As JSON\n\nhi"


def test_httpx_is_imported_before_anything_is_asked() -> None:
    """The openai client must not find it half imported by another thread: that lost completions."""
    code = "import sys, llm_backend.providers.clients; sys.exit(not hasattr(sys.modules['httpx'], 'Timeout'))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_checking_the_settings_imports_neither_openai_nor_prometheus() -> None:
    """gunicorn's master does it: openai takes a second, and prometheus_client must find its folder first."""
    code = (
        "import sys, llm_backend.parameters; sys.exit(len({'openai', 'prometheus_client'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Toy(OpenAI):
    """A provider that is told apart by its name, its key and its address."""

    name = "toy"
    title = "The toy"
    not_honoured = frozenset({"temperature"})

    def endpoint(self, settings: Settings, extra: ExtraParams) -> Endpoint:
        """The address of OpenAI, with a key of its own."""
        return Endpoint(self.name, settings.openai_base_url, "toy-key")


def test_a_provider_is_a_class_and_a_line(stub: StubLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered from here alone, it is chosen by environment or project, named in errors, and asked."""
    monkeypatch.setitem(PROVIDERS, Toy.name, Toy())
    environ = {"OPENAI_PROVIDER": "toy", "OPENAI_BASE_URL": stub.url}
    settings = load_settings(environ, None)
    with pytest.raises(errors.SettingsError, match="'ollama', 'embedded' or 'toy'"):
        load_settings({"OPENAI_PROVIDER": "gemini"}, None)
    with pytest.raises(
        errors.ExtraParamsError, match="base_url is for openai, ollama and toy, not for azure"
    ):
        resolve_parameters(settings, parse_extra_params({"provider": "azure", "base_url": "https://x"}))
    parameters = resolve_parameters(settings)
    assert missing_settings(parameters) == []
    assert parameters == resolve_parameters(settings, parse_extra_params({"provider": "toy"}))
    providers = Providers(Metrics(), timeout=5, max_retries=0)
    try:
        assert texts(providers.complete(parameters.endpoint, REQUEST)) == ("Sarcastic",)
        stub.says(failure(401))
        with pytest.raises(errors.AuthenticationFailedError, match="The toy refused the API key"):
            providers.complete(parameters.endpoint, REQUEST)
    finally:
        providers.close()
    assert "temperature" not in stub.calls[0].body
    assert stub.calls[0].headers["authorization"] == "Bearer toy-key"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, Completion((), 9, 2)),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8},
             "cost": 0.25},
            Completion((), 9, 2, cached_tokens=8, cost=0.25),
        ),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 80}, "cost": 0},
         Completion((), 9, cached_tokens=9, cost=0.0)),
        ({"prompt_tokens": -9, "completion_tokens": True, "cost": "0.25"}, Completion(())),
        ({"prompt_tokens": 10**12, "completion_tokens": 1.5, "cost": -1}, Completion(())),
        ({"prompt_tokens_details": 7, "cost": float("nan")}, Completion(())),
        ({"prompt_tokens_details": {"cached_tokens": "8"}, "cost": True}, Completion(())),
        ({"cost": 10**400}, Completion(())),
        (None, Completion(())),
        ("many", Completion(())),
        ([], Completion(())),
    ],
)  # fmt: skip
def test_what_an_answer_has_cost_comes_with_it(
    stub: StubLLM, kept: Providers, ask: Ask, usage: Any, expected: Completion
) -> None:
    """Tokens in, cached and out, and dollars where the provider says them; nonsense counts as unknown."""
    stub.says(Answer(body={**(completion("ok").body or {}), "usage": usage}))
    assert ask(providers=kept) == replace(expected, replies=(Reply("ok"),))


@pytest.mark.parametrize("for_batch", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        completion(""),
        completion(None, finish_reason="content_filter"),
        Answer(body={"choices": 7, "usage": USAGE}),
        Answer(body={"choices": [], "usage": USAGE}),
        Answer(body={"usage": USAGE}),
    ],
)
def test_an_answer_without_a_reply_says_what_it_has_cost(
    stub: StubLLM, kept: Providers, answer: Answer, for_batch: bool
) -> None:
    """It is paid for like any other."""
    stub.says(answer)
    ask = kept.complete_for_batch if for_batch else kept.complete
    with pytest.raises(errors.CompletionError) as caught:
        ask(Endpoint("openai", stub.url, "k"), REQUEST)
    assert caught.value.paid == Completion((), 11, 5)


def test_an_answer_that_is_not_paid_for_says_no_cost(stub: StubLLM, ask: Ask) -> None:
    """A refusal has no row in the ledger."""
    stub.says(failure(400))
    with pytest.raises(errors.CompletionRefusedError) as caught:
        ask()
    assert caught.value.paid is None


@pytest.mark.parametrize("for_batch", [False, True])
def test_the_cost_of_failed_replies_is_in_the_sum(stub: StubLLM, kept: Providers, for_batch: bool) -> None:
    """One reply of three, two of them filtered: three calls side by side, two in turn, are paid for."""
    stub.says(completion("ok"), completion(""))
    ask = kept.complete_for_batch if for_batch else kept.complete
    answer = ask(Endpoint("ollama", stub.url, "k"), replace(REQUEST, num_replies=3))
    calls = 2 if for_batch else 3
    assert answer == Completion((Reply("ok"),), 11 * calls, 5 * calls)


@pytest.mark.parametrize("for_batch", [False, True])
def test_all_that_failed_is_in_the_error(stub: StubLLM, kept: Providers, for_batch: bool) -> None:
    """Three empty replies side by side are paid for; in turn, the first one ends it."""
    stub.says(completion(""))
    ask = kept.complete_for_batch if for_batch else kept.complete
    with pytest.raises(errors.UnusableReplyError) as caught:
        ask(Endpoint("ollama", stub.url, "k"), replace(REQUEST, num_replies=3))
    calls = 1 if for_batch else 3
    assert caught.value.paid == Completion((), 11 * calls, 5 * calls)


def test_a_reply_stays_where_the_others_fail_one_by_one(stub: StubLLM, kept: Providers, ask: Ask) -> None:
    """Where `n` turns out to be ignored, what the first call has brought is not lost with the rest."""
    stub.says("first", failure(400))
    assert texts(ask(3, providers=kept)) == ("first",)
