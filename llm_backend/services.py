"""What one process keeps from request to request: settings, database, clients, threads, counters."""

import functools
from dataclasses import dataclass

from llm_backend.batch import BatchRunner
from llm_backend.metrics import Metrics
from llm_backend.providers import Providers
from llm_backend.settings import Settings, load_settings
from llm_backend.storage import Storage


@dataclass(frozen=True, slots=True)
class Services:
    """Made once per process. Nothing in it opens a file, a connection or a thread before its first use."""

    settings: Settings
    storage: Storage
    providers: Providers
    batches: BatchRunner
    metrics: Metrics

    def close(self) -> None:
        """Ends threads and connections."""
        self.batches.close()
        self.providers.close()
        self.storage.close()


def make_services(settings: Settings) -> Services:
    """The services for these settings."""
    metrics = Metrics()
    url = settings.database_url
    return Services(
        settings=settings,
        storage=Storage(url.get_secret_value() if url else None, settings.model_dir),
        providers=Providers(
            metrics,
            timeout=settings.llm_timeout,
            max_retries=settings.llm_max_retries,
            allowed_hosts=settings.allowed_hosts,
        ),
        batches=BatchRunner(
            metrics, max_concurrency=settings.max_concurrency, timeout=settings.predict_timeout
        ),
        metrics=metrics,
    )


@functools.cache
def services_of_this_process() -> Services:
    """The services for the settings of the environment, made once."""
    return make_services(load_settings())
