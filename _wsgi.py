"""The entry point: `gunicorn _wsgi:app`, or `python _wsgi.py --port 9090` for development."""

import argparse
import logging
import sys

from werkzeug.serving import run_simple

from llm_backend import logs
from llm_backend.api import create_app
from llm_backend.errors import SettingsError
from llm_backend.services import services_of_this_process
from model import InteractiveLLM

try:
    services = services_of_this_process()
except SettingsError as error:
    sys.exit(error.reason)

logs.configure(services.settings)
_log = logging.getLogger(__name__)

app = create_app(InteractiveLLM, services)
services.start()


def main() -> None:
    """Serves with Flask's development server."""
    parser = argparse.ArgumentParser(description="Serve the LLM labeling backend, for development.")
    parser.add_argument(
        "--host",
        default="0.0.0.0",  # noqa: S104 - Label Studio may run in a container or on another machine
        help="address to listen on",
    )
    parser.add_argument("-p", "--port", type=int, default=services.settings.port, help="port to listen on")
    arguments = parser.parse_args()
    try:
        _log.info("Listening at http://%s:%d, for development", arguments.host, arguments.port)
        # What `app.run` calls, without its banner on stdout; werkzeug's line for each request is not logged.
        run_simple(arguments.host, arguments.port, app, threaded=True)
    finally:
        services.close()


if __name__ == "__main__":
    main()
