"""Servers on loopback for tests of fetching. A test sets the answers; the server records the requests."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request that reached the server. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Page:
    """An answer of the server. If there is `raw`, it writes the whole answer instead."""

    body: bytes = b""
    content_type: str = "image/png"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: Callable[[Any], None] | None = None


def redirect(address: str, status: int = 302) -> Page:
    """A redirect to the address."""
    return Page(status=status, headers={"Location": address})


class FileServer:
    """Answers `answer(request)`. The default answer is a secret that no task may see."""

    def __init__(self, port: int, host: str) -> None:
        self.port = port
        self.url = f"http://{host}:{port}"
        self.connections = 0
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Page] = lambda asked: Page(b"the secret of the canary", "text/plain")

    def says(self, page: Page) -> None:
        """Answers every request with this page."""
        self.answer = lambda asked: page


@contextmanager
def running(host: str = "127.0.0.1", port: int = 0) -> Iterator[FileServer]:
    """A server that listens until the block ends. It counts connections, also those without a request."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body)
            server.asked.append(asked)
            page = server.answer(asked)
            if page.raw:
                page.raw(self.wfile)
                self.close_connection = True
                return
            self.send_response(page.status)
            sent = {"Content-Type": page.content_type, "Content-Length": str(len(page.body))} | page.headers
            for name, value in sent.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page.body)

        do_GET = do_POST = _answer  # noqa: N815 - the base class's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def process_request(self, request: Any, client_address: Any) -> None:
            server.connections += 1
            super().process_request(request, client_address)

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that hangs up is what some tests are about

    listening = Server((host, port), Handler)
    server = FileServer(listening.server_port, f"[{host}]" if ":" in host else host)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
