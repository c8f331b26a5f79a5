"""What must survive a restart. Nothing outside this package talks to the database.

`database` opens it; `projects`, `completions`, `ledger` and `work` each own their tables, and the steps that
bring an older database up to date; `write_behind` stores what was paid for; `checks` tries to write.
"""

from llm_backend.storage.checks import StateCheck
from llm_backend.storage.completions import StoredCompletions
from llm_backend.storage.database import Database
from llm_backend.storage.faults import RefusedValueError, RestartNeededError
from llm_backend.storage.ledger import Ledger, Payment, Proposal
from llm_backend.storage.projects import Project, Projects
from llm_backend.storage.work import Job, Progress, WorkItem, WorkList

__all__ = [
    "Database",
    "Job",
    "Ledger",
    "Payment",
    "Progress",
    "Project",
    "Projects",
    "Proposal",
    "RefusedValueError",
    "RestartNeededError",
    "StateCheck",
    "StoredCompletions",
    "WorkItem",
    "WorkList",
]
