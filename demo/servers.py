"""Server processes: start one on a free port, watch it, and end it with all its children."""

import atexit
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from demo.errors import DemoError

_SECONDS_TO_START = 600  # Label Studio's first start runs some 400 migrations
_SECONDS_TO_STOP = 35  # a little more than gunicorn's graceful timeout
_KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")


class ServerStartError(DemoError):
    """A server did not start. If `port_was_taken`, another port may work."""

    def __init__(self, message: str, *, port_was_taken: bool = False) -> None:
        super().__init__(message)
        self.port_was_taken = port_was_taken


class ServerProcess:
    """A server in a process group of its own. `stop` ends the whole group.

    The server inherits the file descriptors `inherited`.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        directory: Path,
        inherited: Sequence[int] = (),
    ) -> None:
        self._command = [str(part) for part in command]
        kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        self._environment = {**kept, **environment}
        self._directory = directory
        self._inherited = tuple(inherited)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The id of its process and of its group; None while it does not run."""
        return self._process.pid if self._process else None

    @property
    def has_ended(self) -> bool:
        """Whether the server was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def start(self, is_up: Callable[[], bool], log: Path) -> None:
        """Starts the server and waits until it is up.

        Raises:
            ServerStartError: it ended, or was not up in time; the message holds the end of its log.
        """
        atexit.register(self.stop)
        with log.open("ab") as output:
            said_before = output.tell()
            self._process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self._inherited,
            )
        try:
            deadline = time.monotonic() + _SECONDS_TO_START
            while not is_up():
                said = log.read_bytes()[said_before:].decode("utf-8", "replace")
                went_elsewhere = re.search(r"Port \d+ is in use", said)  # Label Studio takes the next port
                if went_elsewhere or self._process.poll() is not None or time.monotonic() > deadline:
                    raise ServerStartError(
                        f"{' '.join(self._command[:4])} did not start:\n{said[-3000:]}",
                        port_was_taken=bool(went_elsewhere) or "Connection in use" in said,
                    )
                time.sleep(0.2)
        except BaseException:  # also Ctrl-C: no process may be left
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the whole process group. Does nothing if it has ended."""
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        if process is None:
            return
        try:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_SECONDS_TO_STOP)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_port() -> int:
    """A port of all interfaces that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("", 0))
        port: int = listener.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nobody listens on this port at the moment."""
    with socket.socket() as listener:
        listener.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # like servers, which ignore closed connections
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def on_a_free_port(start: Callable[[int], None], *, preferred: int | None = None) -> int:
    """Calls `start` with a port, and with another one if somebody was faster. Returns the port.

    The first try is the preferred port, if it is free.
    """
    for attempt in range(4):
        port = preferred if preferred and not attempt and is_free(preferred) else free_port()
        try:
            start(port)
        except ServerStartError as error:
            if not error.port_was_taken:
                raise
        else:
            return port
    raise ServerStartError("Four ports in a row were taken")
