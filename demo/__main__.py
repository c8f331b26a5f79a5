"""`make demo`: Label Studio and the backend on loopback, with example projects, until Ctrl-C."""

import argparse
import os
import signal
import sys
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import requests

from demo.errors import DemoError
from demo.lock import Lock
from demo.run import Demo, Options


def main() -> int:
    """Runs the demo. Returns the exit status: 0 if a person ended it, else 1."""
    arguments = _arguments()
    folder = arguments.folder.absolute()  # the servers have working directories of their own
    options = Options(folder, arguments.label_studio, arguments.port, arguments.backend_port)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a background shell ignores SIGINT
        signal.signal(number, _interrupt)
    try:
        options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = Lock(options.folder / "lock")
        if not lock.take():
            return _already_running(lock, arguments.browser)
        with ExitStack() as ended:
            demo = Demo(options, lock, ended, _say)
            print(demo.start())
            _say(f"Ctrl-C ends it. What you label is kept in {options.folder}, for the next `make demo`.")
            if arguments.browser:
                _open(demo.url)
            demo.watch()
    except KeyboardInterrupt:
        _say("\nEnded.")
        return 0
    except (DemoError, OSError, requests.RequestException) as error:
        print(f"\nThe demo cannot go on. {error}", file=sys.stderr)
    return 1


def _already_running(lock: Lock, browser: bool) -> int:
    said = lock.said()
    if not _is_alive(said.get("pid", os.getpid())):
        servers = " ".join(str(server) for server in said["servers"])
        print(f"A demo that was killed has left its servers. End them: kill {servers}", file=sys.stderr)
        return 1
    if "message" not in said:
        print("The demo is being started already, in another terminal.", file=sys.stderr)
        return 1
    print(f"The demo is already running.\n{said['message']}")
    if browser:
        _open(said["url"])
    return 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _open(url: str) -> None:
    """Opens a browser if there is a display. Without one, a text browser would take over the terminal."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    try:
        webbrowser.open(url)
    except webbrowser.Error:
        _say("No browser could be opened.")


def _say(message: str) -> None:
    print(message, flush=True)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--label-studio",
        type=Path,
        default=Path(".venv-label-studio/bin/label-studio"),
        help="Label Studio's program",
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="where everything is kept")
    parser.add_argument("--port", type=int, help="Label Studio's port (8080, or one that is free)")
    parser.add_argument("--backend-port", type=int, help="the backend's port (9090, or one that is free)")
    parser.add_argument("--no-browser", dest="browser", action="store_false", help="do not open a browser")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
