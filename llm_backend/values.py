"""Frozen values that pass between the steps of a prediction. No behaviour, no I/O."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Provider = Literal["openai", "azure", "ollama", "embedded"]
Role = Literal["system", "developer", "user", "assistant"]

# JSON objects of Label Studio's protocol: a task, a prediction, a region.
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TextPart:
    """Text beside pictures in one message."""

    text: str


@dataclass(frozen=True, slots=True)
class PicturePart:
    """A picture in a message, as a data URL of a PNG or JPEG file."""

    data_url: str


ContentPart = TextPart | PicturePart


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message, as the Chat Completions API has it: a text, or parts of which some are pictures."""

    role: Role
    content: str | tuple[ContentPart, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read of one task, for the LLM.

    `text` is always there; `dialogue` only for a chat that is to be sent as real chat messages, `pictures`
    only for pictures that the model is to see. `fields` is the task's data as it came. `without_pictures`
    reads the text in these very pictures, for a model that takes none; None where the model must take them.
    """

    text: str
    fields: Mapping[str, Any]
    dialogue: tuple[Message, ...] = ()
    pictures: tuple[PicturePart, ...] = ()
    without_pictures: "Callable[[], Reading] | None" = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how completions are asked for. Two equal endpoints share one client.

    `from_project` says that a project's extra params chose the address, so that it must be checked
    before every connection.
    """

    provider: Provider
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    deployment_name: str = ""
    api_version: str = ""
    model_path: str = ""
    from_project: bool = False


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a project's completions are made with: the environment, overridden by its extra params."""

    endpoint: Endpoint
    model: str
    temperature: float
    num_responses: int
    default_prompt: str | None
    prompt_template: str
    use_internal_prompt_template: bool


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What a provider is asked for: `num_replies` replies to the messages.

    `response_format` is a strict JSON schema as the Chat Completions API has it; where an endpoint does not
    know such, the next best is asked for. `logprobs` asks for the probabilities of the tokens.
    """

    model: str
    messages: tuple[Message, ...]
    temperature: float
    num_replies: int = 1
    response_format: Json | None = None
    logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said. `token_logprobs` are its tokens with their log probabilities, where known."""

    text: str
    token_logprobs: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The replies, and what they cost in tokens; `cached_tokens` of the prompt's were cheaper.

    `cost` is in dollars, where the provider says it.
    """

    replies: tuple[Reply, ...]
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request for predictions came to, for the log.

    `predicted` tasks got a prediction, `background` ones go on in the background. Tokens are those paid for
    by this request; of a batch, those of this process. `outcome` is `ok` or the code of an error.
    """

    predicted: int = 0
    background: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class ControlValue:
    """The value of one region: of the control of that name and kind, with the share or probability it has."""

    name: str
    kind: str
    value: Json
    score: float | None = None


@dataclass(frozen=True, slots=True)
class ControlValues:
    """What the controls of one task are to be filled with, and how certain the least certain one is."""

    values: tuple[ControlValue, ...] = ()
    score: float | None = None
