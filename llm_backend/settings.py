"""Every environment variable this project reads: typed, checked once at start, all problems at once.

This is the only module that touches `os.environ` and `.env`. Variables that are set but empty count as
unset, because compose files pass empty strings.
"""

import errno
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_core import PydanticCustomError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from llm_backend.errors import SettingsError
from llm_backend.values import Provider

# Variables that are numbers or one word of a list: an impossible value is repeated in the message.
_SHOWN_WITH_VALUE = {
    "RESPONSE_FORMAT", "FILL",
    "USE_INTERNAL_PROMPT_TEMPLATE", "DIALOGUE_FORMAT", "REMEMBER_PROMPT", "SHOW_ERRORS",
    "OPENAI_PROVIDER", "TEMPERATURE", "NUM_RESPONSES", "LLM_TIMEOUT", "LLM_MAX_RETRIES",
    "MAX_CONCURRENCY", "PREDICT_TIMEOUT", "LEASE_SECONDS", "WEBHOOK_UPDATES_PROMPT", "LOG_LEVEL", "PORT",
    "WORKERS", "THREADS", "IMAGE_INPUT", "IMAGE_MAX_SIDE", "IMAGE_MAX_PAGES", "IMAGE_MAX_PIXELS",
    "FETCH_TIMEOUT", "FETCH_MAX_BYTES", "MAX_REQUEST_BYTES", "LOG_FORMAT",
}  # fmt: skip

STOP_SECONDS = 25  # for what is under way when the server is told to end
_log = logging.getLogger(__name__)
PROJECT_ROOT = Path(__file__).resolve().parent.parent
_LOOKS_LIKE_A_PATH = re.compile(
    r"(~|\.{0,2}/)[^\s{}]*|[^\s{}]+\.(txt|md|prompt|tmpl)|(~|\.{0,2}/)[^{}\n]*\.(txt|md|prompt|tmpl)"
)


def _problem(sentence: str) -> PydanticCustomError:
    return PydanticCustomError("setting", "{sentence}", {"sentence": sentence})


def _text_or_file(value: str) -> str:
    """The text itself (with `\\n` as a newline), or the text of the file whose path it is.

    A relative path is looked up from the working directory, then from the project's root.
    """
    if len(value) < 4096 and "\n" not in value:
        for path in (Path(value).expanduser(), PROJECT_ROOT / value):
            try:
                if path.is_file():
                    return path.read_text(encoding="utf-8-sig").removesuffix("\n")
            except UnicodeDecodeError:
                raise _problem(f"the file {value} is not UTF-8 text") from None
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    break
                raise _problem(f"the file {value} cannot be read ({error.strerror})") from None
    if _LOOKS_LIKE_A_PATH.fullmatch(value):
        raise _problem(f"the file {value} does not exist")
    return value.replace("\\n", "\n")


def _http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(:\d+)?(/[^\s?#]*)?", value):
        raise _problem("must be an address like https://host/path, without user, query or fragment")
    try:
        parts = urlsplit(value)
        named = parts.hostname and parts.port != 0
    except ValueError:
        named = False
    if not named:
        raise _problem("must be an address like https://host/path, with a port below 65536")
    return value.rstrip("/")


def _existing_file(value: str) -> str:
    if not Path(value).is_file():
        raise _problem(f"the file {value} does not exist")
    return value


def _database_url(value: SecretStr) -> SecretStr:
    try:
        url = make_url(value.get_secret_value())
        driver, database = url.drivername, url.database
    except (ArgumentError, ValueError):
        driver, database = "", ""
    if driver not in ("sqlite", "postgresql+psycopg") or database in (None, "", ":memory:"):
        raise _problem("must begin with sqlite:/// or postgresql+psycopg://")
    return value


def header_value(value: SecretStr) -> SecretStr:
    """The value if an HTTP header can carry it: a key with a newline or curly quotes cannot be sent."""
    if not re.fullmatch(r"[\x21-\x7e]*", value.get_secret_value()):
        raise _problem("holds spaces or characters that no key has: copy it again")
    return value


def _not_empty(value: str) -> str:
    if not value.strip():
        raise _problem("is empty")
    return value


def _comma_separated(value: Any) -> Any:
    return [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


TextOrFile = Annotated[str, AfterValidator(_text_or_file)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
HostList = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
OcrLanguage = Annotated[str, Field(pattern=r"^[A-Za-z_]+(/[A-Za-z_]+)?$")]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseModel):
    """The settings of one server. Field names are the environment variables' in lower case."""

    model_config = ConfigDict(frozen=True, alias_generator=str.upper, extra="ignore")

    # What is asked
    default_prompt: TextOrFile | None = Field(
        None, description="Prompt for tasks that have none yet: a text, or the path of a file"
    )
    prompt_prefix: str = Field("prompt", description="The prompt is the TextArea whose name starts with this")
    use_internal_prompt_template: bool = Field(
        True, description="1: `PROMPT_TEMPLATE` wraps the prompt; 0: the prompt is the template"
    )
    prompt_template: Annotated[TextOrFile, AfterValidator(_not_empty)] = Field(
        "prompt_templates/default.txt",
        validate_default=True,
        description="Template with `{text}`, `{prompt}`, `{labels}` and the task's fields: "
        "a text, or the path of a file",
    )
    dialogue_format: Annotated[Literal["text", "messages"], BeforeValidator(_lower)] = Field(
        "text",
        description="How Paragraphs whose names are all chat roles are sent: `text` in the template, "
        "or `messages`",
    )
    response_format: Annotated[Literal["auto", "json", "text"], BeforeValidator(_lower)] = Field(
        "auto",
        description="How replies are asked for. `auto`: as JSON where there is more to fill than one text; "
        "`json`: always; `text`: never",
    )
    fill: Annotated[Literal["default", "all"], BeforeValidator(_lower)] = Field(
        "default",
        description='`default`: the response, Choices, controls with `llm="true"`; `all`: all supported ones',
    )
    remember_prompt: Annotated[Literal["used", "submitted"], BeforeValidator(_lower)] = Field(
        "used",
        description="Which prompts a project remembers: all that were `used` interactively or submitted, "
        "or only `submitted` ones",
    )

    show_errors: bool = Field(
        True, description="1: why Shift+Enter failed is shown in the response box; 0: only as an HTTP error"
    )

    # Who is asked
    openai_provider: Annotated[Provider, BeforeValidator(_lower)] = Field(
        "openai", description="`openai`, `azure`, `ollama` or `embedded` (needs no key)"
    )
    openai_model: str = Field("gpt-3.5-turbo", description="Model to ask")
    openai_api_key: Annotated[SecretStr, AfterValidator(header_value)] | None = Field(
        None, description="Key for OpenAI or Azure"
    )
    openai_base_url: HttpUrl = Field(
        "https://api.openai.com/v1", description="Address of any OpenAI-compatible server"
    )
    azure_resource_endpoint: HttpUrl | None = Field(
        None, description="Azure: `https://<resource>.openai.azure.com`"
    )
    azure_deployment_name: Annotated[str, Field(pattern=r"^[\w.-]+$")] | None = Field(
        None, description="Azure: name of the deployment"
    )
    azure_api_version: Annotated[str, Field(pattern=r"^[\w.-]+$")] = Field(
        "2023-05-15", description="Azure: version of the API"
    )
    ollama_endpoint: HttpUrl = Field(
        "http://localhost:11434/v1", description="Address of Ollama; `/v1` is added where it is missing"
    )
    embedded_model_path: Annotated[str, AfterValidator(_existing_file)] | None = Field(
        None, description="GGUF file for `embedded`; default: the small one that is installed with it"
    )
    temperature: float = Field(0.7, ge=0, le=2, description="Temperature of the model")
    num_responses: int = Field(
        1, ge=1, le=128, description="How many replies to ask for; all go into the response TextArea"
    )
    llm_timeout: Seconds = Field(60, description="Seconds for one completion, all its tries included")
    llm_max_retries: int = Field(
        3, ge=0, le=20, description="Retries after connection errors and 5xx answers"
    )
    allowed_hosts: HostList = Field(
        (),
        description="Private hosts that extra params and tasks may name: `host` or `host:port`, with commas",
    )

    # Files and pictures
    image_input: Annotated[Literal["auto", "vision", "ocr"], BeforeValidator(_lower)] = Field(
        "auto",
        description="What the model gets of an Image: the picture (`vision`), its text (`ocr`), "
        "or the picture until it refuses one (`auto`)",
    )
    ocr_languages: Annotated[
        tuple[OcrLanguage, ...], BeforeValidator(_comma_separated), Field(min_length=1)
    ] = Field(
        ("eng",), description="Languages of the texts in pictures, as tesseract names them, with commas"
    )
    image_max_side: int = Field(
        2048, ge=64, le=8192, description="Larger pictures are scaled down to that many pixels, for OCR too"
    )
    image_max_pages: int = Field(
        5, ge=1, le=100, description="Most pictures read for one task: of a list, or pages of a TIFF file"
    )
    image_max_pixels: int = Field(
        50_000_000, ge=10_000, le=500_000_000, description="Pictures with more pixels are refused"
    )
    fetch_timeout: Annotated[float, Field(gt=0, le=300)] = Field(
        20, description="Seconds to fetch one file that a task names"
    )
    fetch_max_bytes: int = Field(
        50_000_000, ge=1000, le=2_000_000_000, description="Larger files are refused"
    )

    # Batches
    max_concurrency: int = Field(
        32, ge=1, le=1024, description="Completions of batches under way at once, per process"
    )
    predict_timeout: Seconds = Field(
        100, description="Label Studio's `ML_TIMEOUT_PREDICT`, in seconds: the answer leaves before it"
    )
    lease_seconds: Seconds = Field(
        30, description="Seconds after which other processes take the tasks of one that has died"
    )
    cache_days: float = Field(30, gt=0, description="Days for which a paid completion is kept")
    cache_max_rows: int = Field(1_000_000, ge=0, description="How many completions are kept at most")

    # Label Studio
    label_studio_url: HttpUrl | None = Field(
        None, description="Address of Label Studio, to fetch files from and to store late predictions in"
    )
    label_studio_api_key: Annotated[SecretStr, AfterValidator(header_value)] | None = Field(
        None, description="Label Studio token: personal access token or legacy token"
    )
    basic_auth_user: str | None = Field(None, description="User of Basic auth; needs `BASIC_AUTH_PASS`, too")
    basic_auth_pass: SecretStr | None = Field(None, description="Password of Basic auth")
    webhook_updates_prompt: bool | None = Field(
        None,
        description="Whether a webhook without credentials may change a project's prompt; "
        "default: yes without Basic auth, no with it",
    )

    # The server
    model_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        Path("data"), description="Folder for all state"
    )
    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = Field(
        None, description="SQLAlchemy URL; default: SQLite in `MODEL_DIR`"
    )
    max_request_bytes: int = Field(
        100_000_000, ge=1000, le=10_000_000_000, description="Larger requests are refused (413)"
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = Field(
        "INFO", description="`DEBUG`, `INFO`, `WARNING` or `ERROR`"
    )
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = Field(
        "text", description="`text`, or `json`: one object per line"
    )
    port: int = Field(9090, ge=0, le=65535, description="Port to listen on")
    workers: int = Field(1, ge=1, le=64, description="Processes; one is enough for `embedded`")
    threads: int = Field(
        256, ge=4, le=1024, description="Threads per process; some are kept for quick requests"
    )

    @property
    def webhook_is_trusted(self) -> bool:
        """Whether a webhook without credentials may change a project's prompt."""
        if self.webhook_updates_prompt is None:
            return self.basic_auth_user is None
        return self.webhook_updates_prompt

    def secrets(self) -> Iterator[str]:
        """Every secret value, and each password in DATABASE_URL, both as it is written there and decoded."""
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                yield value.get_secret_value()
        if self.database_url is not None:
            written = self.database_url.get_secret_value()
            yield written.partition("://")[2].rpartition("@")[0].partition(":")[2]
            url = make_url(written)
            for secret in (url.password, *map(url.query.get, ("password", "sslpassword"))):
                yield str(secret or "")


_loaded: Settings | None = None


def load_settings(
    environ: Mapping[str, str] | None = None, env_file: Path | None = PROJECT_ROOT / ".env"
) -> Settings:
    """The settings from `environ` (default: `os.environ`), which beats those of `env_file`.

    Raises:
        SettingsError: names every value that cannot be, without printing a secret.
    """
    from_file = dotenv_values(env_file, interpolate=False) if env_file else {}
    from_environment = os.environ if environ is None else environ
    merged = {**_set(from_file), **_set(from_environment)}
    problems = []
    if ("BASIC_AUTH_USER" in merged) != ("BASIC_AUTH_PASS" in merged):
        problems.append("BASIC_AUTH_USER and BASIC_AUTH_PASS must be set together")
    try:
        settings = Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError([*_problems(error), *problems]) from None
    if problems:
        raise SettingsError(problems)
    return settings


def load_or_keep_settings() -> Settings:
    """The settings as they are now; where they cannot be, those that this server has had until now.

    A reload with a typo in `.env` must not end it. Workers have from the master what it has loaded.

    Raises:
        SettingsError: at the start there are none yet.
    """
    global _loaded
    try:
        _loaded = load_settings()
    except SettingsError as error:
        if _loaded is None:
            raise
        _log.error("The settings stay as they were. %s", error.reason)
    return _loaded


def shared_place(environ: Mapping[str, str] | None = None) -> tuple[Path, int] | None:
    """The folder that the workers of one gunicorn share, and this worker's number; None outside of it.

    These two are no settings: `gunicorn.conf.py` sets them, whatever they were before.
    """
    from_environment = os.environ if environ is None else environ
    folder = from_environment.get("PROMETHEUS_MULTIPROC_DIR")
    number = from_environment.get("LLM_BACKEND_WORKER")
    return (Path(folder), int(number)) if folder and number else None


def _set(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value.strip() for name, value in variables.items() if value and value.strip()}


def _problems(error: ValidationError) -> Iterator[str]:
    """One line for each problem; the value is shown only where it cannot be a secret."""
    for item in error.errors():
        name, value = str(item["loc"][0]), item["input"]
        shown = (
            name in _SHOWN_WITH_VALUE and isinstance(value, str) and re.fullmatch(r"-?[\w.+]{1,24}", value)
        )
        yield f"{name}{f'={value}' if shown else ''}: {item['msg'][:1].lower()}{item['msg'][1:]}"
