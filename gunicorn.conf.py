"""gunicorn's settings, from the same environment as the app's."""

import logging
import os
import signal
import sys
from types import FrameType
from typing import Any

from llm_backend.errors import SettingsError
from llm_backend.settings import STOP_SECONDS, load_settings

try:
    _settings = load_settings()
except SettingsError as error:
    sys.exit(error.reason)

bind = f"0.0.0.0:{_settings.port}"
workers = _settings.workers
threads = _settings.threads
worker_class = "gthread"
timeout = 300  # a worker that loads a large embedded model is not dead
graceful_timeout = STOP_SECONDS + 5
preload_app = False  # the embedded model and the database must not be shared across a fork
control_socket_disable = True  # it needs a HOME that can be written
worker_tmp_dir = next(filter(os.path.isdir, ["/dev/shm"]), None)  # noqa: S108 - heartbeats stay off the disk
loglevel = _settings.log_level.lower()
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)  # Ctrl-C reaches master and workers, too


def post_worker_init(worker: Any) -> None:
    """However a worker is told to end, requests under way are answered, if that takes no longer than it may.

    Batches answer with what is done at once. A second signal changes nothing.
    """
    from _wsgi import services

    # Later than this the master kills the worker, which has to write what has come until then.
    worker.cfg.set("graceful_timeout", STOP_SECONDS)

    def stop_soon(number: int, frame: FrameType | None) -> None:
        if not services.stopping.is_set():
            services.stop_soon()
            worker.handle_exit(number, frame)

    for ending in _ENDING:
        signal.signal(ending, stop_soon)
        signal.siginterrupt(ending, False)


def worker_exit(server: Any, worker: Any) -> None:
    """Writes what has been paid for before the process ends."""
    from _wsgi import services

    if not services.close():
        logging.shutdown()
        os._exit(0)  # Python would wait for the threads that have not ended, and the master kill the worker
