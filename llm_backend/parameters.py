"""The settings of the server, and a project's parameters: the settings, overridden by its extra params."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_backend.addresses import checked_address, host_and_port
from llm_backend.errors import ExtraParamsError, MissingSettingsError, SettingsError
from llm_backend.operations.redaction import hide
from llm_backend.providers import PROVIDERS
from llm_backend.settings import PROJECT_ROOT, ExtraParams, Settings, read_settings
from llm_backend.values import Parameters

_log = logging.getLogger(__name__)
_loaded: Settings | None = None


def load_settings(
    environ: Mapping[str, str] | None = None, env_file: Path | None = PROJECT_ROOT / ".env"
) -> Settings:
    """The settings from `environ` (default: `os.environ`), which beats `env_file`.

    Raises:
        SettingsError: names every value that cannot be, without printing a secret.
    """
    return read_settings(environ, env_file, PROVIDERS)


def load_or_keep_settings() -> Settings:
    """The settings as they are now; where they cannot be, those that this server has had until now.

    A reload with a typo in `.env` must not end the server. Workers inherit what the master has loaded.

    Raises:
        SettingsError: at the start there are none to keep.
    """
    global _loaded
    try:
        _loaded = load_settings()
    except SettingsError as error:
        if _loaded is None:
            raise
        _log.error("The settings stay as they were. %s", error.reason)
    return _loaded


def parse_extra_params(raw: Any) -> ExtraParams:
    """Extra params as Label Studio sends them: an object, a JSON string of one, or nothing.

    Raises:
        ExtraParamsError: names every name that is unknown and every value that cannot be.
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
        return ExtraParams.model_validate(raw, context=PROVIDERS)
    except ValidationError as error:
        problems = [_problem(item) for item in error.errors()]
        raise ExtraParamsError(f"Extra params: {'; '.join(problems)}") from None


def _problem(item: Any) -> str:
    name = str(item["loc"][0]) if item["loc"] else "extra params"
    if item["type"] == "extra_forbidden":
        return f"{name} is not known (known: {', '.join(ExtraParams.model_fields)})"
    return f"{name}: {item['msg'][:1].lower()}{item['msg'][1:]}"


def resolve_parameters(settings: Settings, extra: ExtraParams | None = None) -> Parameters:
    """What a project's completions are made with.

    Raises:
        ExtraParamsError: the combination is impossible, or would send the environment's key elsewhere.
    """
    extra = extra or ExtraParams()
    name = extra.provider or settings.openai_provider
    _refuse_params_of_others(name, extra)
    provider = PROVIDERS[name]
    endpoint = provider.endpoint(settings, extra)
    use_internal = extra.use_internal_prompt_template
    return Parameters(
        endpoint=endpoint,
        model=provider.model(settings, extra, endpoint),
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


def missing_settings(parameters: Parameters) -> list[str]:
    """What the provider needs and has not got, each as a short phrase."""
    return PROVIDERS[parameters.endpoint.provider].missing(parameters.endpoint)


def check_address(parameters: Parameters, settings: Settings) -> None:
    """Checks that the server may connect to an address that the project chose; resolves its name.

    Raises:
        AddressRefusedError: it is in a private network and not in ALLOWED_HOSTS.
    """
    if parameters.endpoint.from_project:
        checked_address(*host_and_port(parameters.endpoint.base_url), settings.allowed_hosts)


def _refuse_params_of_others(name: str, extra: ExtraParams) -> None:
    """Refuses an extra param that the provider does not know: ignoring it would look like obeying it."""
    for param in ExtraParams.model_fields:
        takers = [other for other, provider in PROVIDERS.items() if param in provider.takes]
        if takers and name not in takers and getattr(extra, param):
            *others, last = takers
            known = f"{', '.join(others)} and {last}" if others else last
            raise ExtraParamsError(f"Extra params: {param} is for {known}, not for {name}")
