"""Settings: every variable, its default, and every value that cannot be. `os.environ` is never touched."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from llm_backend.errors import SettingsError
from llm_backend.parameters import load_settings
from llm_backend.providers import PROVIDERS
from llm_backend.settings import Settings

DEFAULT_TEMPLATE = "Source Text: {text}\n\nTask Directive: {prompt}"
SECRET = "sk-secretsecret"


def load(**variables: str) -> Settings:
    """The settings of an environment with just these variables."""
    return load_settings(variables, env_file=None)


def problems(**variables: str) -> list[str]:
    """What is wrong with these variables; there must be something."""
    with pytest.raises(SettingsError) as caught:
        load(**variables)
    assert all(problem in caught.value.reason for problem in caught.value.problems)
    return caught.value.problems


def plain(value: object) -> object:
    """The value, taken out of its envelope when it is a secret."""
    return value.get_secret_value() if isinstance(value, SecretStr) else value


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("DEFAULT_PROMPT", None),
        ("PROMPT_PREFIX", "prompt"),
        ("USE_INTERNAL_PROMPT_TEMPLATE", True),
        ("PROMPT_TEMPLATE", DEFAULT_TEMPLATE),
        ("OPENAI_MODEL", "gpt-3.5-turbo"),
        ("OPENAI_PROVIDER", "openai"),
        ("TEMPERATURE", 0.7),
        ("NUM_RESPONSES", 1),
        ("OPENAI_API_KEY", None),
        ("OPENAI_BASE_URL", "https://api.openai.com/v1"),
        ("AZURE_RESOURCE_ENDPOINT", None),
        ("AZURE_DEPLOYMENT_NAME", None),
        ("AZURE_API_VERSION", "2023-05-15"),
        ("MODEL_DIR", Path("data")),
        ("DATABASE_URL", None),
        ("BASIC_AUTH_USER", None),
        ("BASIC_AUTH_PASS", None),
        ("LOG_LEVEL", "INFO"),
        ("PORT", 9090),
        ("THREADS", 256),
        ("MAX_REQUEST_BYTES", 100_000_000),
        ("WORKERS", 1),
        ("LABEL_STUDIO_URL", None),
        ("LABEL_STUDIO_API_KEY", None),
        ("DIALOGUE_FORMAT", "text"),
        ("REMEMBER_PROMPT", "used"),
        ("WEBHOOK_UPDATES_PROMPT", None),
        ("ALLOWED_HOSTS", ()),
        ("LLM_TIMEOUT", 60),
        ("LLM_MAX_RETRIES", 3),
        ("OLLAMA_ENDPOINT", "http://localhost:11434/v1"),
    ],
)
def test_defaults(name: str, default: object) -> None:
    """Every parameter of the description has its default, and one that is set but empty counts as unset."""
    for variables in ({}, {name: ""}, {name: "  \t"}):
        assert plain(getattr(load(**variables), name.lower())) == default


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DEFAULT_PROMPT", "Is it {labels}?", "Is it {labels}?"),
        ("PROMPT_PREFIX", "my-prompt", "my-prompt"),
        ("USE_INTERNAL_PROMPT_TEMPLATE", "0", False),
        ("USE_INTERNAL_PROMPT_TEMPLATE", "1", True),
        ("USE_INTERNAL_PROMPT_TEMPLATE", "False", False),
        ("OPENAI_MODEL", "gpt-4o-mini", "gpt-4o-mini"),
        ("OPENAI_PROVIDER", "azure", "azure"),
        ("OPENAI_PROVIDER", "Ollama", "ollama"),
        ("OPENAI_PROVIDER", " embedded ", "embedded"),
        ("TEMPERATURE", "0", 0.0),
        ("TEMPERATURE", "2", 2.0),
        ("NUM_RESPONSES", "3", 3),
        ("OPENAI_API_KEY", SECRET, SECRET),
        ("OPENAI_BASE_URL", "http://10.0.0.1:8000/v1/", "http://10.0.0.1:8000/v1"),
        ("OPENAI_BASE_URL", "http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("AZURE_RESOURCE_ENDPOINT", "https://r.openai.azure.com/", "https://r.openai.azure.com"),
        ("AZURE_DEPLOYMENT_NAME", "gpt-4.1_eu", "gpt-4.1_eu"),
        ("AZURE_API_VERSION", "2024-02-01-preview", "2024-02-01-preview"),
        ("OLLAMA_ENDPOINT", "http://host.docker.internal:11434/v1/", "http://host.docker.internal:11434/v1"),
        ("DATABASE_URL", "sqlite:////data/state.db", "sqlite:////data/state.db"),
        ("MODEL_DIR", "/data", Path("/data")),
        ("MODEL_DIR", "~/llm", Path("~/llm").expanduser()),
        ("LABEL_STUDIO_API_KEY", SECRET, SECRET),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("PORT", "8080", 8080),
        ("THREADS", "4", 4),
        ("DIALOGUE_FORMAT", "Messages", "messages"),
        ("REMEMBER_PROMPT", "submitted", "submitted"),
        ("ALLOWED_HOSTS", "ollama, 10.0.0.1:8000,,[::1]:80 ,", ("ollama", "10.0.0.1:8000", "[::1]:80")),
        ("LLM_TIMEOUT", "0.5", 0.5),
        ("LLM_MAX_RETRIES", "0", 0),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    """What the environment says is cast to its type: numbers, words in any case, addresses, lists."""
    assert plain(getattr(load(**{name: text}), name.lower())) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USE_INTERNAL_PROMPT_TEMPLATE", "maybe"),
        ("OPENAI_PROVIDER", "gemini"),
        ("OPENAI_PROVIDER", "openai,azure"),
        ("TEMPERATURE", "hot"),
        ("TEMPERATURE", "2.1"),
        ("TEMPERATURE", "-0.1"),
        ("TEMPERATURE", "nan"),
        ("TEMPERATURE", "inf"),
        ("TEMPERATURE", "1,5"),
        ("NUM_RESPONSES", "many"),
        ("NUM_RESPONSES", "0"),
        ("NUM_RESPONSES", "-1"),
        ("NUM_RESPONSES", "1.5"),
        ("NUM_RESPONSES", "1000000"),
        ("OPENAI_BASE_URL", "api.openai.com/v1"),
        ("OPENAI_BASE_URL", "localhost:8000"),
        ("OPENAI_BASE_URL", "ftp://host/v1"),
        ("OPENAI_BASE_URL", "http://"),
        ("OPENAI_BASE_URL", "http:///v1"),
        ("OPENAI_BASE_URL", "http://a host/v1"),
        ("OPENAI_BASE_URL", "http://host/v1?x=1"),
        ("OPENAI_BASE_URL", "http://host/v1#x"),
        ("OPENAI_BASE_URL", "http://user@host/v1"),
        ("OPENAI_BASE_URL", "http://host:99999/v1"),
        ("OPENAI_BASE_URL", "http://host:port/v1"),
        ("OPENAI_BASE_URL", "http://:8000/v1"),
        ("OPENAI_BASE_URL", "http://host:80:90/v1"),
        ("OPENAI_BASE_URL", "http://[::1/v1"),
        ("OLLAMA_ENDPOINT", "host.docker.internal:11434"),
        ("AZURE_RESOURCE_ENDPOINT", "my-resource"),
        ("AZURE_DEPLOYMENT_NAME", "a/b"),
        ("AZURE_DEPLOYMENT_NAME", "a b"),
        ("AZURE_API_VERSION", "2024?x"),
        ("LABEL_STUDIO_URL", "localhost:8080"),
        ("DATABASE_URL", "state.db"),
        ("DATABASE_URL", "mysql://host/db"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "postgresql+psycopg://host:port/db"),
        ("DATABASE_URL", "postgresql+asyncpg://host/db"),
        ("DATABASE_URL", "sqlite+aiosqlite:///state.db"),
        ("EMBEDDED_MODEL_PATH", "/nowhere/model.gguf"),
        ("LOG_LEVEL", "loud"),
        ("PORT", "http"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("WORKERS", "0"),
        ("THREADS", "1"),
        ("LLM_TIMEOUT", "0"),
        ("LLM_TIMEOUT", "-1"),
        ("LLM_TIMEOUT", "60s"),
        ("LLM_TIMEOUT", "inf"),
        ("LLM_MAX_RETRIES", "-1"),
        ("MAX_CONCURRENCY", "0"),
        ("PREDICT_TIMEOUT", "0"),
        ("DIALOGUE_FORMAT", "xml"),
        ("REMEMBER_PROMPT", "always"),
        ("WEBHOOK_UPDATES_PROMPT", "perhaps"),
    ],
)
def test_a_value_that_cannot_be_is_named(name: str, value: str) -> None:
    """An impossible value stops the start with one problem, which begins with the variable's name."""
    (problem,) = problems(**{name: value})
    assert problem.startswith(name)
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NUM_RESPONSES", "many"),
        ("NUM_RESPONSES", "-1"),
        ("TEMPERATURE", "2.1"),
        ("OPENAI_PROVIDER", "gemini"),
    ],
)
def test_a_harmless_value_is_shown(name: str, value: str) -> None:
    """A number or a word that cannot be is repeated, so that one sees where it comes from."""
    (problem,) = problems(**{name: value})
    assert problem.startswith(f"{name}={value}:")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_only_a_harmless_value_is_shown(name: str) -> None:
    """A text, a secret, a path, or an address is never repeated; a number or a word of a list always is."""
    kind = str(Settings.model_fields[name].annotation)
    harmless = name == "openai_provider" or re.search(r"\b(bool|int|float|Literal)\b", kind)
    try:
        load(**{name.upper(): "nonsense"})
    except SettingsError as error:
        shown = [problem.lower().startswith(f"{name}=nonsense:") for problem in error.problems]
        assert shown == [bool(harmless)]
    else:
        assert not harmless


def test_every_provider_is_described() -> None:
    """The table of settings names all of them."""
    description = Settings.model_fields["openai_provider"].description or ""
    assert [name for name in PROVIDERS if f"`{name}`" not in description] == []


def test_all_problems_come_at_once() -> None:
    """One message names every variable that is wrong, those that go together included."""
    found = problems(
        NUM_RESPONSES="many",
        OPENAI_PROVIDER="gemini",
        DEFAULT_PROMPT="/nowhere/prompt.txt",
        OPENAI_BASE_URL="nope",
        BASIC_AUTH_USER="admin",
    )
    names = ("NUM_RESPONSES", "OPENAI_PROVIDER", "DEFAULT_PROMPT", "OPENAI_BASE_URL", "BASIC_AUTH_PASS")
    assert [sum(name in problem for problem in found) for name in names] == [1] * 5
    assert len(found) == 5


@pytest.mark.parametrize("name", ["BASIC_AUTH_USER", "BASIC_AUTH_PASS"])
def test_half_of_basic_auth_is_refused(name: str) -> None:
    """A user without a password, or the other way round, would leave the server open unnoticed."""
    (problem,) = problems(**{name: SECRET})
    assert "BASIC_AUTH_USER" in problem
    assert "BASIC_AUTH_PASS" in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    "variables",
    [
        {"OPENAI_BASE_URL": f"https://user:{SECRET}@host/v1"},
        {"OPENAI_BASE_URL": f"https://host/v1?api-key={SECRET}"},
        {"OLLAMA_ENDPOINT": f"ftp://{SECRET}@host"},
        {"AZURE_RESOURCE_ENDPOINT": SECRET},
        {"AZURE_DEPLOYMENT_NAME": f"{SECRET} x"},
        {"LABEL_STUDIO_URL": f"http://host?token={SECRET}"},
        {"DATABASE_URL": SECRET},
        {"DATABASE_URL": f"mysql://user:{SECRET}@host/db"},
        {"DATABASE_URL": f"postgresql+psycopg://host:{SECRET}/db"},
        {"DATABASE_URL": f"postgresql+psycopg://user:a@b:{SECRET}@host/db"},
        {"OPENAI_PROVIDER": SECRET},
        {"NUM_RESPONSES": SECRET},
        {"TEMPERATURE": f"{SECRET}\n"},
        {"LOG_LEVEL": SECRET},
        {"PORT": "x", "OPENAI_API_KEY": SECRET, "BASIC_AUTH_USER": "u", "BASIC_AUTH_PASS": SECRET},
        {"PORT": "x", "LABEL_STUDIO_API_KEY": SECRET},
        {"OPENAI_API_KEY": f"“{SECRET}”"},
    ],
)
def test_no_problem_prints_a_secret(variables: dict[str, str]) -> None:
    """A key never stands in the message: put in its own variable, in a URL, or in a wrong one."""
    assert SECRET.lower() not in "".join(problems(**variables)).lower()


def test_settings_do_not_print_secrets() -> None:
    """The settings can be logged: keys, passwords and the database's URL are masked."""
    settings = load(
        OPENAI_API_KEY=SECRET,
        LABEL_STUDIO_API_KEY=SECRET,
        BASIC_AUTH_USER="admin",
        BASIC_AUTH_PASS=SECRET,
        DATABASE_URL=f"postgresql+psycopg://user:{SECRET}@host/db",
    )
    assert SECRET not in f"{settings!r}{settings}{settings.model_dump()}"


@pytest.mark.parametrize("key", ["sk-“quoted”", "sk-two\nlines", "sk-\u200binvisible"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    """A key with characters that HTTP headers do not take is refused at start, not at the first request."""
    for name in ("OPENAI_API_KEY", "LABEL_STUDIO_API_KEY"):
        (problem,) = problems(**{name: key})
        assert problem.startswith(name)
        assert key not in problem


def test_a_missing_key_does_not_stop_the_start() -> None:
    """Without any key the settings load: `/health` says what is missing."""
    for provider in PROVIDERS:
        assert load(OPENAI_PROVIDER=provider).openai_api_key is None


@pytest.mark.parametrize(
    ("variables", "trusted"),
    [
        ({}, True),
        ({"BASIC_AUTH_USER": "u", "BASIC_AUTH_PASS": "p"}, False),
        ({"WEBHOOK_UPDATES_PROMPT": "0"}, False),
        ({"WEBHOOK_UPDATES_PROMPT": "1", "BASIC_AUTH_USER": "u", "BASIC_AUTH_PASS": "p"}, True),
    ],
)
def test_who_trusts_webhooks(variables: dict[str, str], trusted: bool) -> None:
    """Webhooks may change prompts without Basic auth and may not with it, unless the variable says so."""
    assert load(**variables).webhook_is_trusted is trusted


@pytest.mark.parametrize("name", ["DEFAULT_PROMPT", "PROMPT_TEMPLATE"])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"Is it {labels}?\nSay why.\n", "Is it {labels}?\nSay why."),
        (b"no newline at the end", "no newline at the end"),
        (b"two\r\nlines\r\n", "two\nlines"),
        ("Schön: {text} 情感".encode(), "Schön: {text} 情感"),
        (b"\xef\xbb\xbfwritten by Notepad", "written by Notepad"),
        (rb"a \n in a file is not a newline", r"a \n in a file is not a newline"),
    ],
)
def test_a_path_gives_the_text_of_the_file(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    """A prompt or template may be the path of a file; its text is used as it is, but for the last newline."""
    file = tmp_path / "my prompt.txt"
    file.write_bytes(content)
    assert getattr(load(**{name: str(file)}), name.lower()) == text


def test_a_relative_path_is_looked_up_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is that of a file where the server was started, else in the project's folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.md").write_text("mine", encoding="utf-8")
    assert load(DEFAULT_PROMPT="mine.md").default_prompt == "mine"
    assert load(DEFAULT_PROMPT="prompt_templates/default.txt").default_prompt == DEFAULT_TEMPLATE


@pytest.mark.parametrize("name", ["DEFAULT_PROMPT", "PROMPT_TEMPLATE"])
@pytest.mark.parametrize(
    "path",
    [
        "/nowhere/prompt.txt",
        "/nowhere/prompt",
        "/nowhere/with a space.txt",
        "./prompt",
        "../prompt.md",
        "~/nowhere/prompt.txt",
        "nowhere.txt",
        "nowhere/prompt.txt",
    ],
)
def test_a_prompt_file_that_does_not_exist_stops_the_start(name: str, path: str) -> None:
    """What can only be meant as a path must lead to a file; else its name would be sent as the prompt."""
    (problem,) = problems(**{name: path})
    assert problem.startswith(name)
    assert path in problem


def test_a_prompt_file_that_is_no_text_stops_the_start(tmp_path: Path) -> None:
    """A file in another encoding is a problem, not a crash."""
    file = tmp_path / "latin.txt"
    file.write_bytes("Größe".encode("latin-1"))
    (problem,) = problems(DEFAULT_PROMPT=str(file))
    assert "UTF-8" in problem


def test_an_empty_template_file_stops_the_start(tmp_path: Path) -> None:
    """A template without any text would drop every prompt."""
    file = tmp_path / "empty.txt"
    file.write_bytes(b"\n")
    (problem,) = problems(PROMPT_TEMPLATE=str(file))
    assert problem.startswith("PROMPT_TEMPLATE")


@pytest.mark.parametrize("name", ["DEFAULT_PROMPT", "PROMPT_TEMPLATE"])
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Classify {text}", "Classify {text}"),
        (r"one\ntwo\n\nthree", "one\ntwo\n\nthree"),
        ("real\nnewline", "real\nnewline"),
        ("Yes/No?", "Yes/No?"),
        ("Is it and/or?", "Is it and/or?"),
        ("Summarize the README.md", "Summarize the README.md"),
        ("Which of {labels} is it, e.g. a/b.txt or c?", "Which of {labels} is it, e.g. a/b.txt or c?"),
        ("{text}", "{text}"),
        (".", "."),
        ("word " * 49 + "word", "word " * 49 + "word"),
        ("word " * 60 + "word", "word " * 60 + "word"),
        ("x" * 300, "x" * 300),
        ("and/or " * 400 + "end", "and/or " * 400 + "end"),
        ("word " * 2000 + "word", "word " * 2000 + "word"),
    ],
)
def test_a_text_stays_a_text(name: str, value: str, text: str) -> None:
    r"""A prompt or template given as text is used as it is, however long, with `\n` as a newline."""
    assert getattr(load(**{name: value}), name.lower()) == text


@settings(deadline=None)
@given(st.text(alphabet=st.characters(exclude_characters="\\/.~\x00", exclude_categories=["Cs"])))
@example("é" * 200)
@example("x" * 4095)
def test_any_words_are_a_prompt(words: str) -> None:
    """Any text without a path's characters is a prompt; without any text it is unset."""
    prompt = f"?{words}?"
    assert load(DEFAULT_PROMPT=prompt).default_prompt == prompt


def test_the_environment_beats_the_env_file(tmp_path: Path) -> None:
    """`.env` fills in what the environment does not say; an empty variable there says nothing."""
    env_file = tmp_path / ".env"
    env_file.write_text("OPENAI_MODEL=from-file\nPORT=8000\nTEMPERATURE=\n# PORT=1\n", encoding="utf-8")
    settings = load_settings({"PORT": "9000", "OPENAI_MODEL": ""}, env_file=env_file)
    assert (settings.openai_model, settings.port, settings.temperature) == ("from-file", 9000, 0.7)


def test_an_env_file_is_not_interpolated(tmp_path: Path) -> None:
    """`$` and `{}` in `.env` are text: prompts and passwords hold them."""
    env_file = tmp_path / ".env"
    env_file.write_text("DEFAULT_PROMPT=Is {text} worth ${PRICE}?\n", encoding="utf-8")
    assert load_settings({"PRICE": "5"}, env_file=env_file).default_prompt == "Is {text} worth ${PRICE}?"


def test_a_missing_env_file_is_no_problem(tmp_path: Path) -> None:
    """`.env` is optional."""
    assert load_settings({}, env_file=tmp_path / ".env").port == 9090


def test_unknown_variables_are_ignored() -> None:
    """The environment holds much that is not ours."""
    assert load(PATH="/bin", NUM_RESPONSE="many") == load()


def test_a_reload_with_an_impossible_value_keeps_the_settings() -> None:
    """At the start there are none to keep."""
    program = """
import os
from llm_backend.errors import SettingsError
from llm_backend.parameters import load_or_keep_settings
for value in ("warm", "0.5", "hot", "0.25"):
    os.environ["TEMPERATURE"] = value
    try:
        print(load_or_keep_settings().temperature)
    except SettingsError:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "0.5", "0.5", "0.25"]
