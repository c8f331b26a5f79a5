"""One run of the demo: starts both servers, sets the projects up, and watches the servers."""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from demo.backend import DemoBackend, answers, cannot_read_pictures, described
from demo.errors import DemoError
from demo.label_studio import Credentials, LabelStudioApi, label_studio_process
from demo.lock import Lock
from demo.projects import ExampleProjects
from demo.servers import ServerProcess, is_free, on_a_free_port
from demo.state import State, damaged

_LABEL_STUDIO_PORT = 8080
_BACKEND_PORT = 9090
_BYTES_NEEDED = 200_000_000
_LINES_OF_A_LOG = 20


@dataclass(frozen=True)
class Options:
    """Folders and ports of a run. If a port is None, the demo takes the usual one, or a free one."""

    folder: Path
    label_studio: Path
    port: int | None = None
    backend_port: int | None = None


class Demo:
    """The servers of one run. Closing `ended` stops them all."""

    def __init__(self, options: Options, lock: Lock, ended: ExitStack, say: Callable[[str], None]) -> None:
        self._options = options
        self._lock = lock
        self._ended = ended
        self._say = say
        self._state = State(options.folder)
        self._data = options.folder / "label-studio"
        self._complete = self._data / "complete"  # exists once Label Studio has been up, and may hold work
        self._servers: dict[str, ServerProcess] = {}

    def start(self) -> str:
        """Starts both servers and sets the projects up. Returns a message for the person.

        Raises:
            DemoError: a setting, a file or a server is not as it must be.
        """
        self._tell()
        self._backend = DemoBackend(self._options.folder / "backend", os.environ)
        self._api = LabelStudioApi(self._credentials())
        self._ended.callback(self._api.close)
        self._start_label_studio()
        self._say("Starting the backend")
        self._on_a_port("The backend", self._start_backend_on, self._options.backend_port, _BACKEND_PORT)
        ExampleProjects(self._api, self._state, self._backend_url, self._backend.basic_auth).set_up(
            self._say, ask_ahead=self._backend.is_free_of_charge
        )
        if cannot_read_pictures(self._backend.parameters):
            self._say("Document images cannot be read: install tesseract (Debian's tesseract-ocr)")
        message = how_to_get_in(
            self._api.url, self._api.credentials, described(self._backend.parameters), self._backend_url
        )
        self._tell(url=self._api.url, message=message)
        return message

    @property
    def url(self) -> str:
        """The address of Label Studio."""
        return self._api.url

    def watch(self) -> None:
        """Waits until a server ends by itself.

        Raises:
            DemoError: says which, with the end of its log.
        """
        while True:
            for name, server in self._servers.items():
                if server.has_ended:
                    log = self._log(name)
                    said = log.read_text(encoding="utf-8", errors="replace").splitlines()
                    end = "\n".join(said[-_LINES_OF_A_LOG:])
                    raise DemoError(f"{name} has ended by itself. The end of {log}:\n{end}")
            time.sleep(0.5)

    def _credentials(self) -> Credentials:
        """The user. Removes Label Studio's half-made database if the first start did not finish."""
        if not self._complete.exists():
            shutil.rmtree(self._data, ignore_errors=True)
            free = shutil.disk_usage(self._options.folder).free
            if free < _BYTES_NEEDED:
                raise DemoError(f"{self._options.folder} has {free // 1_000_000} MB left, and 200 are needed")
        elif not self._state.has_credentials:
            raise damaged(self._options.folder)
        return self._state.credentials()

    def _start_label_studio(self) -> None:
        if not self._options.label_studio.exists():
            raise DemoError(f"{self._options.label_studio} is missing: `make demo` installs Label Studio")
        first = "" if self._complete.exists() else ", which makes its database: a minute, only this once"
        self._say(f"Starting Label Studio{first}")
        self._on_a_port("Label Studio", self._start_label_studio_on, self._options.port, _LABEL_STUDIO_PORT)
        self._complete.touch()

    def _on_a_port(self, name: str, start: Callable[[int], None], chosen: int | None, usual: int) -> None:
        if chosen is not None:
            if not is_free(chosen):
                raise DemoError(f"Port {chosen} is taken: choose another one, or none, and one is found")
            start(chosen)
            return
        port = on_a_free_port(start, preferred=usual)
        if port != usual:
            self._say(f"Port {usual} is taken: {name} has taken {port}")

    def _start_label_studio_on(self, port: int) -> None:
        self._api.url = f"http://127.0.0.1:{port}"
        server = label_studio_process(
            self._options.label_studio.absolute(), port, self._api.credentials, self._data,
            inherited=[self._lock.descriptor],
        )  # fmt: skip
        self._run("Label Studio", server, self._label_studio_is_up)

    def _label_studio_is_up(self) -> bool:
        if self._api.refuses_the_token():
            raise DemoError(
                "Label Studio does not take the demo's token: it was changed, or legacy tokens were switched "
                "off. To begin anew, which deletes what was labeled in the demo: make demo-clean"
            )
        return self._api.is_up()

    def _start_backend_on(self, port: int) -> None:
        self._backend_url = f"http://127.0.0.1:{port}"
        server = self._backend.process(
            port, self._api.url, self._api.credentials.token, inherited=[self._lock.descriptor]
        )
        self._run("Backend", server, lambda: answers(self._backend_url))

    def _run(self, name: str, server: ServerProcess, is_up: Callable[[], bool]) -> None:
        log = self._log(name)
        log.unlink(missing_ok=True)
        self._servers[name] = server
        self._ended.callback(server.stop)

        def is_known_and_up() -> bool:
            self._tell()  # the first call comes as soon as there is a process
            return is_up()

        server.start(is_known_and_up, log)

    def _tell(self, **more: str) -> None:
        """Tells other starts of the demo which processes there are."""
        servers = [server.pid for server in self._servers.values() if server.pid]
        self._lock.say({"pid": os.getpid(), "servers": servers, **more})

    def _log(self, name: str) -> Path:
        return self._options.folder / f"{name.lower().replace(' ', '-')}.log"


def how_to_get_in(label_studio_url: str, credentials: Credentials, model: str, backend_url: str) -> str:
    """A message that says how to get in."""
    return f"""
    Label Studio  {label_studio_url}
    User          {credentials.email}
    Password      {credentials.password}

    Model         {model}
    Backend       {backend_url}

Open a project and a task, switch Auto-Annotation on at the bottom, and press Shift+Enter in the prompt.
"""
