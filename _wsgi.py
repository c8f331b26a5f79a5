"""The entry point: `gunicorn _wsgi:app`, or `python _wsgi.py --port 9090` for development."""

import argparse
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from llm_backend.api import create_app
from llm_backend.errors import SettingsError
from llm_backend.services import services_of_this_process
from model import InteractiveLLM

try:
    services = services_of_this_process()
except SettingsError as error:
    sys.exit(error.reason)

logging.basicConfig(
    level=services.settings.log_level, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
)
for chatty in (
    "httpx",
    "httpcore",
    "httpx2",
    "httpcore2",
    "openai",
):  # at DEBUG they would log prompts and headers
    logging.getLogger(chatty).setLevel(logging.WARNING)

_SECONDS_FOR_LAST_ANSWERS = 0.2

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
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, _stop)
    with suppress(KeyboardInterrupt):
        app.run(host=arguments.host, port=arguments.port, threaded=True)
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


if __name__ == "__main__":
    main()
