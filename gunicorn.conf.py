"""gunicorn's settings, from the same environment as the app's."""

import os
import sys

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
