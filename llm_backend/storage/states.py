"""The states of a job and of a task, and every change of them that there is. No statement makes another."""

import enum
from dataclasses import dataclass
from typing import Generic, TypeVar

import sqlalchemy as sa

State = TypeVar("State", bound=enum.StrEnum)


class JobState(enum.StrEnum):
    """`STOPPED` is by a person or a newer batch; of a `FAILED` job `code` and `reason` say why."""

    ACTIVE = "active"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


class TaskState(enum.StrEnum):
    """A `DONE` task has a prediction, which is `DELIVERING` while it is on its way to Label Studio.

    It is `HANDED_OVER` when a response has carried it, or Label Studio has it.
    """

    PENDING = "pending"
    DONE = "done"
    DELIVERING = "delivering"
    HANDED_OVER = "handed_over"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Change(Generic[State]):
    """A change to the state `after`, of whatever is in one of the states `before`."""

    before: tuple[State, ...]
    after: State

    def of(self, table: sa.Table) -> sa.Update:
        """The statement that changes the state of those rows of the table that may change so."""
        return table.update().where(self.can_begin(table)).values(state=self.after)

    def can_begin(self, table: sa.Table) -> sa.ColumnElement[bool]:
        """Whether a row of the table is in a state in which this may happen to it."""
        state = table.c.state
        return state == self.before[0] if len(self.before) == 1 else state.in_(self.before)


class JobChange:
    """All that happens to jobs. A new one is active."""

    SUBMITTED_AGAIN = Change(tuple(JobState), JobState.ACTIVE)
    FINISHED = Change((JobState.ACTIVE,), JobState.DONE)
    STOPPED = Change((JobState.ACTIVE,), JobState.STOPPED)
    FAILED = Change((JobState.ACTIVE,), JobState.FAILED)


class TaskChange:
    """All that happens to tasks. A new one is pending."""

    PREDICTED = Change((TaskState.PENDING,), TaskState.DONE)
    FAILED = Change((TaskState.PENDING,), TaskState.FAILED)
    GIVEN_BACK = Change((TaskState.PENDING,), TaskState.PENDING)
    TRIED_AGAIN = Change((TaskState.FAILED,), TaskState.PENDING)
    ANSWERED = Change((TaskState.DONE,), TaskState.HANDED_OVER)
    SENT = Change((TaskState.DONE, TaskState.DELIVERING), TaskState.DELIVERING)
    DELIVERED = Change((TaskState.DELIVERING,), TaskState.HANDED_OVER)
    REFUSED = Change((TaskState.DELIVERING,), TaskState.FAILED)


def column_of(states: type[enum.StrEnum]) -> "sa.Enum":
    """The type of a column that holds one of the states, as text."""
    return sa.Enum(
        states, native_enum=False, length=16, values_callable=lambda kind: [state.value for state in kind]
    )
