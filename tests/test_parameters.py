"""Extra params over the environment: what may be overridden, and where the environment's key may go."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_backend.addresses import AddressRefusedError
from llm_backend.errors import ExtraParamsError, MissingSettingsError
from llm_backend.parameters import (
    check_address,
    load_settings,
    missing_settings,
    parse_extra_params,
    require_settings,
    resolve_parameters,
)
from llm_backend.providers import PROVIDERS
from llm_backend.settings import ExtraParams, Settings
from llm_backend.values import Parameters

KEY = "sk-environment"
OWN_KEY = "sk-project"
OPENAI = {"OPENAI_API_KEY": KEY}
AZURE = {
    "OPENAI_PROVIDER": "azure",
    "OPENAI_API_KEY": KEY,
    "AZURE_RESOURCE_ENDPOINT": "https://ours.openai.azure.com",
    "AZURE_DEPLOYMENT_NAME": "ours",
}
OLLAMA = {"OPENAI_PROVIDER": "ollama", "OPENAI_API_KEY": KEY}
EMBEDDED = {"OPENAI_PROVIDER": "embedded", "OPENAI_API_KEY": KEY}
PUBLIC = "http://8.8.8.8/v1"  # an address, so that no name is looked up; nothing connects to it
NAMES = [
    "provider",
    "model",
    "temperature",
    "num_responses",
    "default_prompt",
    "prompt_template",
    "use_internal_prompt_template",
    "base_url",
    "api_key",
    "resource_endpoint",
    "deployment_name",
    "api_version",
]
# One settings object each; nothing in it depends on the machine.
SETTINGS = {
    provider: load_settings(environ, env_file=None)
    for provider, environ in {
        "openai": OPENAI,
        "azure": AZURE,
        "ollama": OLLAMA,
        "embedded": EMBEDDED,
    }.items()
}


def settings_for(**environ: str) -> Settings:
    """Settings of just these variables."""
    return load_settings(environ, env_file=None)


def resolve(extra: Any, settings: Settings = SETTINGS["openai"]) -> Parameters:
    """The parameters, as `/setup` makes them, the check of the address included."""
    parameters = resolve_parameters(settings, parse_extra_params(extra))
    check_address(parameters, settings)
    return parameters


@pytest.mark.parametrize("raw", [None, {}, "", "  ", "{}", "null", " {} "])
def test_nothing_overrides_nothing(raw: Any) -> None:
    """No extra params, in whatever way they are missing, leave the environment as it is."""
    assert parse_extra_params(raw) == ExtraParams()
    assert parse_extra_params(raw).as_json() == {}


def test_the_names_are_the_documented_ones() -> None:
    """Just the names of the issue may be overridden."""
    assert list(ExtraParams.model_fields) == NAMES


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"model": "gpt-4o"}, {"model": "gpt-4o"}),
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"num_responses": 3}, {"num_responses": 3}),
        ({"default_prompt": "Is it {labels}?"}, {"default_prompt": "Is it {labels}?"}),
        ({"default_prompt": ""}, {"default_prompt": "from the environment"}),
        ({"prompt_template": "{prompt} {text}"}, {"prompt_template": "{prompt} {text}"}),
        ({"use_internal_prompt_template": False}, {"use_internal_prompt_template": False}),
        ({"model": None, "temperature": None}, {"model": "gpt-3.5-turbo", "temperature": 0.7}),
    ],
)
def test_extra_params_beat_the_environment(
    extra: dict[str, Any], expected: dict[str, Any], as_text: bool
) -> None:
    """An object or a JSON string of one overrides the settings; null and empty leave them."""
    settings = settings_for(DEFAULT_PROMPT="from the environment", **OPENAI)
    parameters = resolve(json.dumps(extra) if as_text else extra, settings)
    assert {name: getattr(parameters, name) for name in expected} == expected


def test_without_extra_params_the_environment_counts() -> None:
    """All parameters come from the environment when no project says otherwise."""
    settings = settings_for(
        OPENAI_MODEL="m", TEMPERATURE="0.1", NUM_RESPONSES="2", DEFAULT_PROMPT="d",
        PROMPT_TEMPLATE="t {prompt}", USE_INTERNAL_PROMPT_TEMPLATE="0",
        OPENAI_BASE_URL="http://127.0.0.1:1/v1", **OPENAI,
    )  # fmt: skip
    parameters = resolve({}, settings)
    assert (parameters.model, parameters.temperature, parameters.num_responses) == ("m", 0.1, 2)
    assert (parameters.default_prompt, parameters.prompt_template) == ("d", "t {prompt}")
    assert parameters.use_internal_prompt_template is False
    assert parameters.endpoint.base_url == "http://127.0.0.1:1/v1"
    assert not parameters.endpoint.from_project


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ([], "object"),
        ('"text"', "object"),
        (5, "object"),
        (True, "object"),
        ("[" * 100_000, "JSON"),
        ('{"a":' * 100_000, "JSON"),
        ({"temprature": 1}, "temprature"),
        ({"OPENAI_MODEL": "m"}, "OPENAI_MODEL"),
        ({"provider": "gemini"}, "provider"),
        ({"provider": 1}, "provider"),
        ({"model": ""}, "model"),
        ({"model": ["m"]}, "model"),
        ({"model": "x" * 300}, "model"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ('{"temperature": NaN}', "temperature"),
        ('{"temperature": Infinity}', "temperature"),
        ({"temperature": True}, "temperature"),
        ({"num_responses": 0}, "num_responses"),
        ({"num_responses": 1.5}, "num_responses"),
        ({"num_responses": "many"}, "num_responses"),
        ({"num_responses": 10**30}, "num_responses"),
        ({"num_responses": True}, "num_responses"),
        ({"default_prompt": 5}, "default_prompt"),
        ({"prompt_template": {}}, "prompt_template"),
        ({"use_internal_prompt_template": "maybe"}, "use_internal_prompt_template"),
        ({"base_url": "host"}, "base_url"),
        ({"base_url": "http://user:pw@host"}, "base_url"),
        ({"base_url": "http://host:99999"}, "base_url"),
        ({"base_url": "http://host:port"}, "base_url"),
        ({"base_url": "http://[::1"}, "base_url"),
        ({"base_url": "http://:80"}, "base_url"),
        ({"base_url": "file:///etc/passwd"}, "base_url"),
        ({"resource_endpoint": "my-resource"}, "resource_endpoint"),
        ({"deployment_name": "../other"}, "deployment_name"),
        ({"deployment_name": "a?b"}, "deployment_name"),
        ({"api_version": "1&x=2"}, "api_version"),
        ({"api_key": 5}, "api_key"),
        ({"api_key": "sk-two\nlines"}, "api_key"),
        ({"api_key": "sk-“quoted”"}, "api_key"),
    ],
)
def test_what_cannot_be_is_refused(raw: Any, named: str) -> None:
    """An unknown name or an impossible value is refused with a reason that names it."""
    with pytest.raises(ExtraParamsError, match=named) as caught:
        parse_extra_params(raw)
    assert caught.value.status == 422


def test_all_problems_are_named_at_once() -> None:
    """One reason lists every wrong name and value."""
    with pytest.raises(ExtraParamsError) as caught:
        parse_extra_params({"provider": "x", "num_responses": 0, "unknown": 1})
    assert all(name in caught.value.reason for name in ("provider", "num_responses", "unknown"))


@pytest.mark.parametrize(
    "extra",
    [
        {"api_key": [OWN_KEY]},
        {"api_key": OWN_KEY, "base_url": "nope"},
        {"base_url": f"https://user:{OWN_KEY}@host"},
        {"base_url": f"https://host?key={OWN_KEY}"},
        {"provider": OWN_KEY},
        {"temperature": OWN_KEY},
        {"api_key": OWN_KEY, "provider": "embedded", "model": "m"},
    ],
)
def test_no_reason_holds_a_key(extra: dict[str, Any]) -> None:
    """A refusal never repeats a key, wherever it stood."""
    with pytest.raises(ExtraParamsError) as caught:
        resolve(extra)
    assert OWN_KEY not in caught.value.reason


@pytest.mark.parametrize(
    "extra",
    [
        {"api_key": OWN_KEY, "model": "m", "temperature": 0.5},
        {"api_key": ""},
        {"use_internal_prompt_template": False},
    ],
)
def test_extra_params_survive_the_database(extra: dict[str, Any]) -> None:
    """What was set can be written as JSON, key included, and read back the same."""
    parsed = parse_extra_params(extra)
    again = parse_extra_params(json.dumps(parsed.as_json()))
    assert resolve_parameters(SETTINGS["openai"], again) == resolve_parameters(SETTINGS["openai"], parsed)


def test_a_key_is_not_printed() -> None:
    """Neither the extra params nor the endpoint show the key when they are logged."""
    extra = parse_extra_params({"api_key": OWN_KEY})
    endpoint = resolve_parameters(SETTINGS["openai"], extra).endpoint
    assert endpoint.api_key == OWN_KEY
    assert OWN_KEY not in f"{extra!r}{extra}{endpoint!r}"


@pytest.mark.parametrize("name", ["default_prompt", "prompt_template"])
@pytest.mark.parametrize("path", ["/etc/hostname", "prompt_templates/default.txt", "/nowhere/prompt.txt"])
def test_extra_params_never_open_files(name: str, path: str) -> None:
    """A path in the extra params is text: whoever edits a project must not read the server's files."""
    assert getattr(resolve({name: path}), name) == path


@pytest.mark.parametrize(
    ("provider", "extra"),
    [
        ("openai", {}),
        ("openai", {"provider": "openai", "model": "gpt-4o"}),
        ("openai", {"base_url": "https://api.openai.com/v1/"}),
        ("azure", {"deployment_name": "theirs", "api_version": "2024-02-01"}),
        ("azure", {"resource_endpoint": "https://ours.openai.azure.com"}),
    ],
)
def test_the_environment_s_key_serves_its_own_provider_and_address(
    provider: str, extra: dict[str, Any]
) -> None:
    """The key of the environment is used where the environment says, whatever else is overridden."""
    assert resolve(extra, SETTINGS[provider]).endpoint.api_key == KEY


@pytest.mark.parametrize(
    ("provider", "extra"),
    [
        ("openai", {"base_url": PUBLIC}),
        ("openai", {"base_url": "http://api.openai.com/v1"}),
        ("openai", {"base_url": "https://api.openai.com/v2"}),
        ("openai", {"base_url": "https://api.openai.com.evil.example/v1"}),
        ("openai", {"provider": "azure"}),
        ("openai", {"provider": "azure", "resource_endpoint": "https://theirs.openai.azure.com"}),
        ("openai", {"provider": "openai", "base_url": PUBLIC, "api_key": ""}),
        ("azure", {"provider": "openai"}),
        ("azure", {"resource_endpoint": "https://theirs.openai.azure.com"}),
        ("ollama", {"provider": "openai"}),
        ("embedded", {"provider": "azure"}),
    ],
)
def test_another_provider_or_address_must_bring_its_key(provider: str, extra: dict[str, Any]) -> None:
    """Wherever the environment's key has not been meant for, the project must bring its own."""
    with pytest.raises(ExtraParamsError, match="api_key"):
        resolve_parameters(SETTINGS[provider], parse_extra_params(extra))


@pytest.mark.parametrize(
    ("provider", "extra", "base_url"),
    [
        ("openai", {"base_url": PUBLIC}, PUBLIC),
        (
            "openai",
            {"provider": "azure", "resource_endpoint": "https://8.8.8.8", "deployment_name": "d"},
            "https://8.8.8.8",
        ),
        ("azure", {"provider": "openai"}, "https://api.openai.com/v1"),
        ("azure", {"resource_endpoint": "https://8.8.8.8"}, "https://8.8.8.8"),
        ("ollama", {"base_url": "http://8.8.8.8:11434"}, "http://8.8.8.8:11434/v1"),
    ],
)
def test_with_its_own_key_a_project_goes_elsewhere(
    provider: str, extra: dict[str, Any], base_url: str
) -> None:
    """A project that brings its key uses that key, at the address it names."""
    endpoint = resolve({**extra, "api_key": OWN_KEY}, SETTINGS[provider]).endpoint
    assert (endpoint.base_url, endpoint.api_key) == (base_url, OWN_KEY)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "extra",
    [
        {"provider": "ollama"},
        {"provider": "ollama", "base_url": "http://8.8.8.8:11434"},
        {"provider": "embedded"},
    ],
)
def test_ollama_and_embedded_need_no_key_and_get_none(provider: str, extra: dict[str, Any]) -> None:
    """Ollama and embedded work without a key, and the environment's never goes there."""
    assert KEY not in resolve(extra, SETTINGS[provider]).endpoint.api_key


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "provider": st.sampled_from(sorted(PROVIDERS)),
            "base_url": st.sampled_from([PUBLIC, "https://api.openai.com/v1", "http://localhost:11434/v1"]),
            "resource_endpoint": st.sampled_from(["https://ours.openai.azure.com", "https://8.8.8.8"]),
            "api_key": st.sampled_from(["", OWN_KEY]),
            "deployment_name": st.just("d"),
            "model": st.just("m"),
        },
    ),
    st.sampled_from(sorted(SETTINGS)),
)
@example({"provider": "azure", "resource_endpoint": "https://ours.openai.azure.com"}, "openai")
def test_no_combination_sends_the_key_elsewhere(extra: dict[str, str], provider: str) -> None:
    """Whatever a project sets, the environment's key only meets its own provider and address."""
    try:
        endpoint = resolve_parameters(SETTINGS[provider], parse_extra_params(extra)).endpoint
    except ExtraParamsError:
        return
    own = {"openai": "https://api.openai.com/v1", "azure": "https://ours.openai.azure.com"}
    if endpoint.api_key == KEY:
        assert endpoint.provider == provider
        assert endpoint.base_url == own[provider]


@pytest.mark.parametrize(
    "extra",
    [
        {"base_url": "http://127.0.0.1:8000/v1", "api_key": OWN_KEY},
        {"base_url": "http://localhost:8000/v1", "api_key": OWN_KEY},
        {"base_url": "http://169.254.169.254/latest", "api_key": OWN_KEY},
        {"base_url": "http://[::ffff:10.0.0.1]/v1", "api_key": OWN_KEY},
        {"base_url": "http://0x7f.1/v1", "api_key": OWN_KEY},
        {"provider": "ollama", "base_url": "http://127.0.0.1:11434"},
        {
            "provider": "azure",
            "resource_endpoint": "http://10.0.0.1",
            "deployment_name": "d",
            "api_key": OWN_KEY,
        },
    ],
)
def test_a_private_address_is_refused(extra: dict[str, Any]) -> None:
    """A project cannot make the server connect into its own network."""
    with pytest.raises(AddressRefusedError, match="ALLOWED_HOSTS"):
        resolve(extra)


def test_the_operator_allows_private_addresses() -> None:
    """ALLOWED_HOSTS opens a private host; the environment's own addresses need no permission."""
    settings = settings_for(ALLOWED_HOSTS="127.0.0.1:11434", **OPENAI)
    assert resolve(
        {"provider": "ollama", "base_url": "http://127.0.0.1:11434"}, settings
    ).endpoint.from_project
    assert not resolve({"provider": "ollama"}).endpoint.from_project
    assert not resolve({"provider": "ollama", "base_url": "http://localhost:11434/"}).endpoint.from_project


@pytest.mark.parametrize(
    ("endpoint", "base_url"),
    [
        ("http://ollama:11434", "http://ollama:11434/v1"),
        ("http://ollama:11434/", "http://ollama:11434/v1"),
        ("http://ollama:11434/v1/", "http://ollama:11434/v1"),
        ("https://proxy/ollama/v1", "https://proxy/ollama/v1"),
    ],
)
def test_ollama_s_version_is_added(endpoint: str, base_url: str) -> None:
    """Ollama's OpenAI-compatible API is below `/v1`, which people leave out."""
    settings = settings_for(OPENAI_PROVIDER="ollama", OLLAMA_ENDPOINT=endpoint)
    assert resolve({}, settings).endpoint.base_url == base_url


@pytest.mark.parametrize(
    ("provider", "extra"),
    [
        ("openai", {"resource_endpoint": "https://8.8.8.8"}),
        ("openai", {"deployment_name": "d"}),
        ("openai", {"api_version": "v"}),
        ("azure", {"base_url": PUBLIC, "api_key": OWN_KEY}),
        ("ollama", {"deployment_name": "d"}),
        ("embedded", {"base_url": PUBLIC, "api_key": OWN_KEY}),
        ("embedded", {"model": "llama3"}),
    ],
)
def test_what_the_provider_does_not_know_is_refused(provider: str, extra: dict[str, Any]) -> None:
    """A parameter of another provider is refused: ignoring it would look like obeying it."""
    with pytest.raises(ExtraParamsError):
        resolve(extra, SETTINGS[provider])


@pytest.mark.parametrize(
    ("environ", "needed"),
    [
        (OPENAI, []),
        ({}, ["OPENAI_API_KEY"]),
        (AZURE, []),
        (
            {"OPENAI_PROVIDER": "azure"},
            ["OPENAI_API_KEY", "AZURE_RESOURCE_ENDPOINT", "AZURE_DEPLOYMENT_NAME"],
        ),
        (
            {"OPENAI_PROVIDER": "azure", "OPENAI_API_KEY": KEY, "AZURE_DEPLOYMENT_NAME": "d"},
            ["AZURE_RESOURCE_ENDPOINT"],
        ),
        ({"OPENAI_PROVIDER": "ollama"}, []),
    ],
)
def test_what_is_missing_is_named(environ: dict[str, str], needed: list[str]) -> None:
    """Everything that a provider cannot do without is named at once, and `/setup` is refused with it."""
    parameters = resolve({}, settings_for(**environ))
    assert [phrase.partition(" ")[0] for phrase in missing_settings(parameters)] == needed
    if needed:
        with pytest.raises(MissingSettingsError) as caught:
            require_settings(parameters)
        assert all(name in caught.value.reason for name in needed)
    else:
        require_settings(parameters)


def test_a_project_s_key_is_enough() -> None:
    """A server without a key serves projects that bring one."""
    assert missing_settings(resolve({"api_key": OWN_KEY}, settings_for())) == []


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
inner = leaves | st.lists(leaves, max_size=2) | st.dictionaries(st.text(), leaves, max_size=2)
json_values = inner | st.dictionaries(st.text() | st.sampled_from(NAMES), inner, max_size=4)


@settings(deadline=None)
@given(json_values | st.text())
def test_anything_typed_is_parsed_or_refused(raw: Any) -> None:
    """Whatever stands in the extra params, the only error is ours, and what is accepted can be stored."""
    try:
        extra = parse_extra_params(raw)
    except ExtraParamsError as error:
        error.reason.encode("utf-8")
    else:
        json.dumps(extra.as_json())
