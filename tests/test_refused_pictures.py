"""How endpoints say that a model takes no pictures, and what is not that; over HTTP against the stub."""

from collections.abc import Iterator

import pytest

from llm_backend.errors import CompletionError, PicturesRefusedError
from llm_backend.operations.metrics import Metrics
from llm_backend.providers.clients import Providers
from llm_backend.values import CompletionRequest, Endpoint, Message, PicturePart, TextPart
from testkit.stub_llm import Answer, StubLLM, completion, failure

PICTURE = PicturePart("data:image/png;base64,iVBORw0KGgo=")
WITH_PICTURE = CompletionRequest("gpt-x", (Message("user", (TextPart("hi"), PICTURE)),), temperature=0.5)
WITHOUT = CompletionRequest("gpt-x", (Message("user", "hi"),), temperature=0.5)


@pytest.fixture
def providers() -> Iterator[Providers]:
    """With nothing learnt yet."""
    providers = Providers(Metrics(), timeout=5, max_retries=2)
    yield providers
    providers.close()


@pytest.mark.parametrize(
    "answer",
    [
        failure(400, "Invalid content type. image_url is only supported by certain models.",
                param="messages.[0].content.[1].type"),
        failure(400, "gpt-x is not a multimodal model"),
        failure(400, "At most 0 image(s) may be provided in one prompt."),
        failure(400, "messages[0].content must be a string"),
        failure(400, "Failed to deserialize the JSON body: messages[0]: unknown variant `image_url`, "
                     "expected `text` at line 1 column 91"),
        failure(400, "This model does not support image input"),
        failure(400, "this model is missing data required for image input"),
        failure(400, "Model does not support images. Please use a model that does."),
        failure(404, "No endpoints found that support image input"),
        failure(422, "Input should be a valid string"),
        failure(500, "image input is not supported - hint: if this is unexpected, you may need to provide "
                     "the mmproj"),
    ],
)  # fmt: skip
def test_a_refusal_is_recognised_and_remembered(stub: StubLLM, providers: Providers, answer: Answer) -> None:
    """As OpenAI, vLLM, Groq, DeepSeek, Ollama, LM Studio, OpenRouter and llama.cpp say it; asked once."""
    stub.answer = lambda call: (
        answer if isinstance(call.body["messages"][0]["content"], list) else completion("ok")
    )
    endpoint = Endpoint("openai", stub.url, "sk-secret")
    for _ in range(2):
        with pytest.raises(PicturesRefusedError, match="IMAGE_INPUT=ocr"):
            providers.complete(endpoint, WITH_PICTURE)
    assert len(stub.calls) == 1
    assert providers.complete(endpoint, WITHOUT).replies[0].text == "ok"


@pytest.mark.parametrize(
    "answer",
    [
        failure(400, "You uploaded an unsupported image. Please make sure your image has of one of the "
                     "following formats: ['png', 'jpeg', 'gif', 'webp']."),
        failure(400, "The image size is too large"),
        failure(400, "Could not process image"),
        failure(400, "This model's maximum context length is 4096 tokens."),
        failure(401, "This key does not support images"),
        failure(429, "Rate limit reached for images", {"Retry-After": "99"}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_one_picture_is_not_a_refusal(
    stub: StubLLM, providers: Providers, answer: Answer
) -> None:
    """Nor is a wrong key or a limit: nothing is remembered."""
    stub.says(answer, "ok")
    endpoint = Endpoint("openai", stub.url, "sk-secret")
    with pytest.raises(CompletionError) as caught:
        providers.complete(endpoint, WITH_PICTURE)
    assert not isinstance(caught.value, PicturesRefusedError)
    assert providers.complete(endpoint, WITH_PICTURE).replies[0].text == "ok"


def test_the_embedded_model_is_not_asked_with_pictures(providers: Providers) -> None:
    """It has no eyes; nothing is loaded to find that out."""
    with pytest.raises(PicturesRefusedError):
        providers.complete(Endpoint("embedded", model_path="/nowhere.gguf"), WITH_PICTURE)


def test_a_picture_is_sent_as_the_api_has_it(stub: StubLLM, providers: Providers) -> None:
    """A list of a text and an `image_url` part."""
    providers.complete(Endpoint("openai", stub.url, "sk-secret"), WITH_PICTURE)
    assert stub.calls[0].body["messages"] == [
        {"role": "user", "content": [
            {"type": "text", "text": "hi"},
            {"type": "image_url", "image_url": {"url": PICTURE.data_url}},
        ]}
    ]  # fmt: skip


def test_instructions_go_before_the_picture_where_system_messages_are_refused(
    stub: StubLLM, providers: Providers
) -> None:
    """As a text of their own in the same message: the picture stays."""
    system = Message("system", "Answer with JSON")
    request = CompletionRequest("gpt-x", (system, *WITH_PICTURE.messages), temperature=0.5)
    stub.answer = lambda call: (
        failure(400, "system role is not supported")
        if call.body["messages"][0]["role"] == "system"
        else completion("ok")
    )
    providers.complete(Endpoint("openai", stub.url, "sk-secret"), request)
    [message] = stub.calls[-1].body["messages"]
    assert [part.get("text") for part in message["content"]] == ["Answer with JSON", "hi", None]
