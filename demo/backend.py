"""The backend of the demo. It uses the provider of `.env` or the environment, else the embedded model."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import requests

from demo.errors import DemoError
from demo.servers import ServerProcess
from llm_backend.errors import BackendError
from llm_backend.parameters import ExtraParams, require_settings, resolve_parameters
from llm_backend.settings import PROJECT_ROOT, Settings, load_settings
from llm_backend.values import Parameters


class DemoBackend:
    """Checks the settings of the demo's backend and makes its process.

    The settings of the provider and of Basic auth come from the environment and `.env`. The demo sets two
    things: the backend keeps its state in `directory`, and it knows the demo's Label Studio.

    Raises:
        DemoError: a setting is impossible or missing; names it.
    """

    def __init__(
        self, directory: Path, environ: Mapping[str, str], env_file: Path = PROJECT_ROOT / ".env"
    ) -> None:
        self._directory = directory
        self._environment = {
            **environ,
            "MODEL_DIR": str(directory),
            "DATABASE_URL": f"sqlite:///{directory.resolve() / 'state.sqlite3'}",
        }
        if not env_file.exists():
            self._environment.setdefault("OPENAI_PROVIDER", "embedded")
            self._environment.setdefault("TEMPERATURE", "0")  # chance makes so small a model only worse
        try:
            self.settings = load_settings(self._environment, env_file)
            self.parameters = resolve_parameters(self.settings, ExtraParams())
            require_settings(self.parameters)
        except BackendError as error:
            raise DemoError(
                f"{error.reason}\nPut that right in .env, or take the embedded model, which needs nothing: "
                "OPENAI_PROVIDER=embedded"
            ) from None

    @property
    def is_free_of_charge(self) -> bool:
        """Whether the demo may ask the model before a person does."""
        return self.parameters.endpoint.provider == "embedded"

    @property
    def basic_auth(self) -> dict[str, str]:
        """User and password of the backend, by Label Studio's names; empty without Basic auth."""
        return basic_auth_of(self.settings)

    def process(
        self, port: int, label_studio_url: str, label_studio_token: str, inherited: Sequence[int]
    ) -> ServerProcess:
        """The backend under gunicorn, on loopback."""
        return ServerProcess(
            [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "_wsgi:app"],
            environment={
                **self._environment,
                "PORT": str(port),
                "LABEL_STUDIO_URL": label_studio_url,
                "LABEL_STUDIO_API_KEY": label_studio_token,
            },
            directory=PROJECT_ROOT,
            inherited=inherited,
        )


def basic_auth_of(settings: Settings) -> dict[str, str]:
    """User and password in these settings, by Label Studio's names; empty without Basic auth."""
    if settings.basic_auth_user is None or settings.basic_auth_pass is None:
        return {}
    return {
        "basic_auth_user": settings.basic_auth_user,
        "basic_auth_pass": settings.basic_auth_pass.get_secret_value(),
    }


def described(parameters: Parameters) -> str:
    """The model, for the person who started the demo."""
    if parameters.endpoint.provider == "embedded":
        return "embedded, far too small to label well; another one: see .env.example"
    return f"{parameters.model} of {parameters.endpoint.provider}"


def cannot_read_pictures(parameters: Parameters) -> bool:
    """Whether tasks with pictures must fail: the model takes no pictures, and tesseract is missing."""
    return parameters.endpoint.provider == "embedded" and shutil.which("tesseract") is None


def answers(url: str) -> bool:
    """Whether a backend is up at this address."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.get(f"{url}/health", timeout=5)
            return answer.ok and answer.json()["status"] == "UP"
        except requests.RequestException:
            return False
