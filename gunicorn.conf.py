"""gunicorn's settings, from the same environment as the app's."""

import os
import signal
import sys
from types import FrameType
from typing import Any

from gunicorn.glogging import Logger

from llm_backend import logs
from llm_backend.errors import SettingsError
from llm_backend.settings import load_settings

try:
    _settings = load_settings()
except SettingsError as error:
    sys.exit(error.reason)

bind = f"0.0.0.0:{_settings.port}"
workers = _settings.workers
threads = _settings.threads
worker_class = "gthread"
timeout = 300  # a worker that loads a large embedded model is not dead
graceful_timeout = 30
preload_app = False  # the embedded model and the database must not be shared across a fork
control_socket_disable = True  # it needs a HOME that can be written
worker_tmp_dir = next(filter(os.path.isdir, ["/dev/shm"]), None)  # noqa: S108 - heartbeats stay off the disk
loglevel = _settings.log_level.lower()


class _OneFormat(Logger):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's logger, in the master, too: its handlers write as all others do, without secrets."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        logs.configure(_settings)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(logs.make_formatter(_settings))


logger_class = _OneFormat


def post_worker_init(worker: Any) -> None:
    """On SIGTERM, batches answer with what is done at once, so that the time for a graceful end suffices."""
    from _wsgi import services

    usual = signal.getsignal(signal.SIGTERM)

    def stop_soon(number: int, frame: FrameType | None) -> None:
        services.stop_soon()
        if callable(usual):
            usual(number, frame)

    signal.signal(signal.SIGTERM, stop_soon)


def worker_exit(server: Any, worker: Any) -> None:
    """Writes what has been paid for before the process ends."""
    from _wsgi import services

    services.close()
