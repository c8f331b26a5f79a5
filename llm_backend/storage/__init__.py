"""What must survive a restart. Nothing outside this package talks to the database.

`database` opens it; `projects`, `completions` and `work` each own their tables.
"""

from llm_backend.storage.completions import StoredCompletions
from llm_backend.storage.database import Database
from llm_backend.storage.faults import RefusedValueError
from llm_backend.storage.projects import Project, Projects
from llm_backend.storage.work import Job, Progress, WorkItem, WorkList

__all__ = [
    "Database",
    "Job",
    "Progress",
    "Project",
    "Projects",
    "RefusedValueError",
    "StoredCompletions",
    "WorkItem",
    "WorkList",
]
