"""An OpenAI-compatible server on loopback. A test sets the answers; the server records the calls."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request that reached the stub."""

    path: str
    headers: dict[str, str]
    body: Json


@dataclass(frozen=True)
class Answer:
    """An answer of the stub, after `delay` seconds. `raw` bytes replace the JSON body.

    With `reset` the stub resets the connection instead. With `end="middle"` it sends half of the body, with
    `end="never"` it repeats the body until the client leaves.
    """

    status: int = 200
    body: Json | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    raw: bytes | None = None
    reset: bool = False
    end: Literal["whole", "middle", "never"] = "whole"


def completion(*texts: str | None, finish_reason: str = "stop") -> Answer:
    """A chat completion with these replies."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    return Answer(body={"id": "c", "object": "chat.completion", "created": 1, "model": "stub",
                        "choices": choices, "usage": usage})  # fmt: skip


def failure(status: int, message: str = "no", headers: dict[str, str] | None = None, **error: Any) -> Answer:
    """An error in the form of OpenAI's API. `error` adds fields such as `code` and `param`."""
    return Answer(status, {"error": {"message": message, "type": "error", **error}}, headers or {})


class StubLLM:
    """Answers every call with `answer(call)`, and keeps the calls."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Drops the calls and goes back to the default answer."""
        with self._lock:
            self.calls: list[Call] = []
            self.answer: Callable[[Call], Answer] = lambda call: completion("Sarcastic")

    def says(self, *answers: Answer | str) -> None:
        """Gives these answers one after the other, then the last one for ever."""
        queue = [completion(answer) if isinstance(answer, str) else answer for answer in answers]

        def next_answer(call: Call) -> Answer:
            with self._lock:
                return queue.pop(0) if len(queue) > 1 else queue[0]

        self.answer = next_answer

    def take(self, call: Call) -> Answer:
        """Keeps the call and gives the answer."""
        with self._lock:
            self.calls.append(call)
        return self.answer(call)

    @property
    def prompts(self) -> list[str]:
        """The last message of every call."""
        return [call.body["messages"][-1]["content"] for call in self.calls]


@contextmanager
def running_stub() -> Iterator[StubLLM]:
    """A stub that listens until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = stub.take(Call(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            time.sleep(answer.delay)
            if answer.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.rfile.close()
                self.connection.close()
                return
            payload = json.dumps(answer.body).encode() if answer.raw is None else answer.raw
            self.send_response(answer.status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(payload))}
            if answer.end == "never":
                del headers["Content-Length"]
            for name, value in (headers | answer.headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.close_connection = answer.end != "whole"
            self.wfile.write(payload[: len(payload) // 2] if answer.end == "middle" else payload)
            while answer.end == "never":  # until the client leaves
                self.wfile.write(payload)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 256

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that gives up is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    stub = StubLLM(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
