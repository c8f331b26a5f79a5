"""gunicorn's settings, from the same environment as the app's."""

import itertools
import logging
import os
import re
import shutil
import signal
import sys
from types import FrameType
from typing import Any

from gunicorn.glogging import Logger

from llm_backend.errors import SettingsError
from llm_backend.operations import logs
from llm_backend.operations.worker_folder import make_folder, parents
from llm_backend.settings import STOP_SECONDS, load_or_keep_settings

try:
    _settings = load_or_keep_settings()
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
# Heartbeats stay off the disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None  # noqa: S108
loglevel = _settings.log_level.lower()
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)  # Ctrl-C reaches master and workers, too


_QUOTING = re.compile(r"(Invalid request from ip=\S* [^:'\"]*).*", re.DOTALL)


class _OneFormat(Logger):  # type: ignore[misc] # gunicorn has no types
    """gunicorn's logger, in the master, too: its handlers write as all others do, without secrets."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        logs.configure(_settings)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            handler.setFormatter(logs.make_formatter(_settings))

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        """Without what it quotes of a request that is not HTTP, which may be a task's data."""
        super().warning(_QUOTING.sub(r"\1", msg), *args, **kwargs)


logger_class = _OneFormat


def when_ready(server: Any) -> None:
    """Makes the folder that the workers share; in memory where possible.

    prometheus_client finds it by this variable, which a worker has before it imports anything. A reload keeps
    the folder, so that counters go on.
    """
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    folder = make_folder(parents(_settings.model_dir), user=server.cfg.uid, group=server.cfg.gid)
    if folder is None:
        server.log.warning("No folder can be written for /metrics: each worker counts for itself")
    else:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)


def pre_fork(server: Any, worker: Any) -> None:
    """Gives the worker the lowest number that no other has; it inherits the variable."""
    taken = {other.number for other in server.WORKERS.values()}
    worker.number = next(number for number in itertools.count() if number not in taken)
    os.environ["LLM_BACKEND_WORKER"] = str(worker.number)


def child_exit(server: Any, worker: Any) -> None:
    """Removes the gauges of a dead worker: nothing is under way in it any more. Its counters stay."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(worker.number, folder)


def on_exit(server: Any) -> None:
    """Removes the folder."""
    folder = os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


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
    if "_wsgi" not in sys.modules:  # it could not be imported, and nothing has begun
        return
    from _wsgi import services

    if not services.close():
        logging.shutdown()
        os._exit(0)  # Python would wait for the threads that have not ended, and the master kill the worker
