"""`python _wsgi.py --check`: what an operator wants to know before people use the server, and what to do.

Nothing of this server's state is changed and nothing is taken from its work list, so that it may be running.
Label Studio is only asked for lists. To answer with a project's models it asks each of them for `/health` and
`/setup`, as it does whenever somebody opens the model page.
"""

from llm_backend.checkup.checks import LONGEST_SECONDS, check
from llm_backend.checkup.findings import Finding

__all__ = ["LONGEST_SECONDS", "Finding", "check"]
