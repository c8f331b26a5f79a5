"""The entry point: `gunicorn _wsgi:app`, or `python _wsgi.py --port 9090` for development.

`python _wsgi.py --check` checks everything and serves nothing.
"""

import argparse
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from werkzeug.serving import run_simple

from llm_backend.errors import SettingsError
from llm_backend.operations import logs
from llm_backend.parameters import load_settings
from llm_backend.server.app import create_app
from llm_backend.services import services_of_this_process
from model import InteractiveLLM


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Serve the LLM labeling backend, for development.")
    parser.add_argument(
        "--host",
        default="0.0.0.0",  # noqa: S104 - Label Studio may run in a container or on another machine
        help="address to listen on",
    )
    parser.add_argument("-p", "--port", type=int, help="port to listen on (default: PORT)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="check the settings, the LLM with one completion, Label Studio and its projects, then exit "
        "with 0, or with 1 if something failed; takes at most LLM_TIMEOUT and five minutes",
    )
    return parser.parse_args()


def run_checks() -> int:
    """Prints what is found, line by line. Returns 1 if something has failed, else 0."""
    from llm_backend.checkup import check  # tens of megabytes, which no server needs

    with suppress(SettingsError):  # the checks say what is wrong with them
        logs.configure(load_settings())
    status, encoding = 0, sys.stdout.encoding
    for finding in check():
        for line in finding.lines():  # titles of projects may have signs that the terminal has not
            print(line.encode(encoding, "replace").decode(encoding), flush=True)  # noqa: T201
        status = max(status, int(finding.level == "FAILED"))
    return status


arguments = read_arguments() if __name__ == "__main__" else None
if arguments and arguments.check:
    try:
        sys.exit(run_checks())
    except KeyboardInterrupt:
        sys.exit(130)

try:
    services = services_of_this_process()
except SettingsError as error:
    sys.exit(error.reason)

logs.configure(services.settings)
_log = logging.getLogger(__name__)
_SECONDS_FOR_LAST_ANSWERS = 0.2

app = create_app(InteractiveLLM, services)
services.start()


def serve(host: str, port: int) -> None:
    """Serves with Flask's development server until a signal ends it."""
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, _stop)
    _log.info("Listening at http://%s:%d, for development", host, port)
    with suppress(KeyboardInterrupt):
        # What `app.run` calls, without its banner on stdout; werkzeug's line for each request is not logged.
        run_simple(host, port, app, threaded=True)
    ended = services.close()
    time.sleep(_SECONDS_FOR_LAST_ANSWERS)
    if not ended:
        logging.shutdown()
        os._exit(0)  # Python would wait for the threads that have not ended


def _stop(_number: int, _frame: FrameType | None) -> None:
    """The first signal ends the server as gently as gunicorn does; a second changes nothing."""
    if not services.stopping.is_set():
        services.stop_soon()
        raise KeyboardInterrupt


if arguments:
    serve(arguments.host, services.settings.port if arguments.port is None else arguments.port)
