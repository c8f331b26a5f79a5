"""What the parts of the batch engine share."""

import threading
from dataclasses import dataclass

from llm_backend.asking.asking import Asking
from llm_backend.asking.shape import Shapes
from llm_backend.operations.metrics import Metrics
from llm_backend.settings import Settings
from llm_backend.storage import Jobs, Projects, StoredCompletions
from llm_backend.storage.write_behind import WriteBehind


class Changed(threading.Condition):
    """Wakes the requests that wait for their tasks."""

    def tell(self) -> None:
        """An outcome is stored, or a job has ended."""
        with self:
            self.notify_all()


@dataclass(frozen=True, slots=True)
class Shared:
    """Settings, stores, and what asks and writes; `owner` is the name of this process in leases.

    Nothing new begins once `stopping` is set.
    """

    settings: Settings
    projects: Projects
    jobs: Jobs
    stored: StoredCompletions
    shapes: Shapes
    asking: Asking
    writer: WriteBehind
    metrics: Metrics
    owner: str
    changed: Changed
    stopping: threading.Event
