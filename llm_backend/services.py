"""What one process keeps from request to request: settings, database, clients, threads, counters."""

import functools
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass

from llm_backend import __version__
from llm_backend.asking.asking import Asking
from llm_backend.asking.completions import Completions
from llm_backend.asking.shape import Shapes
from llm_backend.batches import Batches, Changed, Shared
from llm_backend.errors import StorageError
from llm_backend.operations.admission import Admission
from llm_backend.operations.background_probe import BackgroundProbe
from llm_backend.operations.metrics import Metrics
from llm_backend.operations.provider_status import ProviderStatus
from llm_backend.operations.worker_folder import SharedFolder
from llm_backend.parameters import parse_extra_params, resolve_parameters
from llm_backend.providers import Providers
from llm_backend.reading import FileReader
from llm_backend.settings import STOP_SECONDS, Settings, load_or_keep_settings, shared_place
from llm_backend.storage import Database, Jobs, Ledger, Projects, StateCheck, StoredCompletions
from llm_backend.storage.write_behind import WriteBehind
from llm_backend.values import Parameters

_PATIENCE_SECONDS = 1.0  # Prometheus waits ten
_SLACK_SECONDS = 60.0  # between the longest a request takes and what it cannot take


class Stopping(threading.Event):
    """Set when the process is told to end; `since` is when that was, by the monotonic clock."""

    since = 0.0

    def set(self) -> None:
        """The first time counts."""
        self.since = self.since or time.monotonic()
        super().set()


@dataclass(frozen=True, slots=True)
class Services:
    """Made once per process. Nothing in it opens a file, a connection or a thread before its first use."""

    settings: Settings
    parameters: Parameters  # of projects without extra params
    database: Database
    projects: Projects
    jobs: Jobs
    providers: Providers
    reader: FileReader
    writer: WriteBehind
    shapes: Shapes
    completions: Completions
    asking: Asking
    batches: Batches
    admission: Admission
    metrics: Metrics
    provider_status: ProviderStatus
    state_problems: BackgroundProbe[tuple[str, ...]]
    tasks_left: BackgroundProbe[int | None]
    stopping: Stopping

    def stop_soon(self) -> None:
        """Takes no more tasks; open batch requests answer with what is done. Safe in a signal handler."""
        self.stopping.set()

    def start(self) -> None:
        """Goes on with batches that an earlier process has left."""
        self.batches.start()

    def close(self) -> bool:
        """Finishes what is under way, writes it, and ends threads and connections; whether all has ended.

        What does not end within `STOP_SECONDS` of `stop_soon` is given up: its threads are left alone.
        """
        self.stop_soon()
        deadline = self.stopping.since + STOP_SECONDS
        parts = (self.completions, self.batches, self.writer)  # which stores what the others have left
        ended = [part.close(deadline) for part in parts]
        if not all(ended):
            return False
        self.providers.close()
        self.reader.close()
        self.state_problems.close()
        self.tasks_left.close()
        self.database.close()
        return True


def make_services(
    settings: Settings, shared: SharedFolder | None = None, *, moves_corrupt_aside: bool = True
) -> Services:
    """The services for these settings, for one of several workers where something is `shared`.

    A server `moves_corrupt_aside` at its start; `--check` only looks at its database.
    """
    own = resolve_parameters(settings, parse_extra_params(None))
    about = {"version": __version__, "provider": own.endpoint.provider, "model": own.model}
    metrics = Metrics(shared, about)
    status = ProviderStatus(own.endpoint, own.model, shared)
    url = settings.database_url
    database = Database(
        url.get_secret_value() if url else None, settings.model_dir, moves_corrupt_aside=moves_corrupt_aside
    )
    projects, stored = Projects(database), StoredCompletions(database)
    jobs = Jobs(database, longest_request=settings.predict_timeout + _SLACK_SECONDS)
    changed, stopping = Changed(), Stopping()
    owner = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
    tasks_left = BackgroundProbe(functools.partial(_tasks_left, jobs))
    metrics.watch_tasks_left(lambda: tasks_left.ask(_PATIENCE_SECONDS).fresh)
    providers = Providers(
        metrics,
        status,
        timeout=settings.llm_timeout,
        max_retries=settings.llm_max_retries,
        allowed_hosts=settings.allowed_hosts,
    )
    writer = WriteBehind(database, stored, Ledger(database), jobs.tasks, owner=owner, on_written=changed.tell)
    reader = FileReader(settings)
    completions = Completions(providers, stored, writer, metrics)
    shapes, asking = Shapes(settings), Asking(completions, reader, metrics)
    return Services(
        settings=settings,
        parameters=own,
        database=database,
        projects=projects,
        jobs=jobs,
        providers=providers,
        reader=reader,
        writer=writer,
        shapes=shapes,
        completions=completions,
        asking=asking,
        batches=Batches(
            Shared(
                settings, projects, jobs, stored, shapes, asking, writer, metrics, owner, changed, stopping
            )
        ),
        admission=Admission(settings.threads),
        metrics=metrics,
        provider_status=status,
        state_problems=BackgroundProbe(StateCheck(database, settings.model_dir).problems),
        tasks_left=tasks_left,
        stopping=stopping,
    )


def _tasks_left(jobs: Jobs) -> int | None:
    """The tasks left on the work list; None where it cannot be used."""
    try:
        return jobs.tasks_left()
    except StorageError:
        return None


@functools.cache
def services_of_this_process() -> Services:
    """The services for the settings of the environment, made once."""
    place = shared_place()
    return make_services(load_or_keep_settings(), SharedFolder(*place) if place else None)
