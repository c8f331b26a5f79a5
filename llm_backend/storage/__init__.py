"""What must survive a restart. Nothing outside this package talks to the database.

`database` opens it. `projects`, `completions`, `ledger`, `jobs` and `tasks` each own their tables and the
steps that bring an older database up to date. `write_behind` stores what was paid for, `checks` tries
to write.
"""

from llm_backend.storage.checks import StateCheck
from llm_backend.storage.completions import StoredCompletions
from llm_backend.storage.database import Database
from llm_backend.storage.faults import RefusedValueError, RestartNeededError
from llm_backend.storage.jobs import Batch, Job, Jobs, OpenRequest
from llm_backend.storage.ledger import Ledger, Payment, Proposal
from llm_backend.storage.projects import Project, Projects
from llm_backend.storage.states import JobChange, JobState, TaskState
from llm_backend.storage.tasks import NewTask, Outcome, Progress, TaskResult, Tasks, WorkItem

__all__ = [
    "Batch",
    "Database",
    "Job",
    "JobChange",
    "JobState",
    "Jobs",
    "Ledger",
    "NewTask",
    "OpenRequest",
    "Outcome",
    "Payment",
    "Progress",
    "Project",
    "Projects",
    "Proposal",
    "RefusedValueError",
    "RestartNeededError",
    "StateCheck",
    "StoredCompletions",
    "TaskResult",
    "TaskState",
    "Tasks",
    "WorkItem",
]
