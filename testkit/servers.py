"""Processes for tests and benchmarks: a stub LLM with a fixed latency, and the backend under gunicorn."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GUNICORN = ("-m", "gunicorn", "_wsgi:app")


@dataclass(frozen=True)
class Server:
    """A running server: its address, its master and its worker."""

    url: str
    process: "subprocess.Popen[bytes]"
    seconds_to_start: float = 0.0

    @property
    def pid(self) -> int:
        """The process id of the master."""
        return self.process.pid

    @property
    def worker_pid(self) -> int:
        """The first child of the master."""
        return self.worker_pids[0]

    @property
    def worker_pids(self) -> list[int]:
        """All children of the master."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def worker_megabytes(self) -> float:
        """Resident memory of the worker, as the kernel counts it."""
        for line in Path(f"/proc/{self.worker_pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise RuntimeError("no VmRSS")

    def worker_cpu_seconds(self) -> float:
        """CPU time that the worker has used, in user and kernel mode."""
        fields = Path(f"/proc/{self.worker_pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def terminate(self) -> None:
        """Tells the master to end, as `docker stop` does."""
        os.kill(self.pid, signal.SIGTERM)

    def exit_code(self, seconds: float) -> int:
        """Waits for the end of the master, at most so many seconds, and gives its exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """Ends master and worker at once, as a crash does."""
        os.killpg(self.pid, signal.SIGKILL)

    def get(self, path: str) -> Any:
        """The answer to a GET, as JSON."""
        return json.loads(self.get_text(path))

    def get_text(self, path: str) -> str:
        """The answer to a GET, as text."""
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return str(answer.read().decode())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer to a POST of a JSON body, as JSON."""
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)


@contextmanager
def stub_llm(latency: float = 0.0, faults: str = "none") -> Iterator[str]:
    """An OpenAI-compatible server in a process of its own. It answers after `latency` seconds.

    `testkit.stub_process` explains `faults`.
    """
    command = [sys.executable, "-m", "testkit.stub_process", str(latency), faults]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@contextmanager
def backend(
    stub_url: str,
    output: Path | None = None,
    program: Sequence[str] = GUNICORN,
    prefix: Sequence[str] = (),
    /,
    *,
    model_dir: Path | None = None,
    **variables: str,
) -> Iterator[Server]:
    """Runs the backend until the block ends: one worker under gunicorn, which asks the stub.

    The backend keeps its state in `model_dir`. It appends its output to the file `output`, if there is one.
    `program` replaces gunicorn. `prefix` is a command that runs the command after it, such as `unshare`.
    """
    with TemporaryDirectory() as scratch:
        port = _free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "PORT": str(port),
            "MODEL_DIR": str(model_dir or scratch),
            "OPENAI_PROVIDER": "openai",
            "OPENAI_API_KEY": "sk-benchmark",
            "OPENAI_BASE_URL": stub_url,
            "LOG_LEVEL": "ERROR",
            **variables,
        }
        started = time.monotonic()
        with output.open("ab") if output else nullcontext() as printed:
            process = subprocess.Popen(
                [*prefix, sys.executable, *program], cwd=ROOT, env=environment, start_new_session=True,
                stdout=printed, stderr=printed,
            )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url + "/health", process)
            yield Server(url, process, time.monotonic() - started)
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"{url} does not answer")
