"""What an error means for a task of a batch, for its job, and for how much is asked of the endpoint.

A task waits on the list for what may pass by itself (`BackendError.may_pass`). A provider that is down is the
exception: it has been tried again already, and the next click tries the task again.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from llm_backend.errors import (
    AuthenticationFailedError,
    BackendError,
    ConnectionFailedError,
    ExtraParamsError,
    LabelingConfigError,
    MissingSettingsError,
    ModelNotFoundError,
    QuotaExhaustedError,
    RateLimitedError,
    StorageError,
)


class ForJob(enum.Enum):
    """Whether the job goes on after an error in one of its tasks."""

    GOES_ON = enum.auto()
    ENDS_IF_NOTHING_HAS_SUCCEEDED = enum.auto()  # what has worked before will work again
    ENDS = enum.auto()


@dataclass(frozen=True, slots=True)
class Meaning:
    """`task_fails`, or it is given back and has another turn. `slows_down`: fewer are asked for at once.

    The thread that met the error rests for `rest_seconds`.
    """

    task_fails: bool = False
    job: ForJob = ForJob.GOES_ON
    slows_down: bool = False
    rest_seconds: float = 0.0


_NOTHING_CAN_SUCCEED = Meaning(job=ForJob.ENDS)
MEANINGS: Mapping[type[BackendError], Meaning] = {
    RateLimitedError: Meaning(slows_down=True),
    ConnectionFailedError: Meaning(slows_down=True, job=ForJob.ENDS_IF_NOTHING_HAS_SUCCEEDED),
    StorageError: Meaning(rest_seconds=1.0),
    AuthenticationFailedError: _NOTHING_CAN_SUCCEED,
    ExtraParamsError: _NOTHING_CAN_SUCCEED,
    LabelingConfigError: _NOTHING_CAN_SUCCEED,
    MissingSettingsError: _NOTHING_CAN_SUCCEED,
    ModelNotFoundError: _NOTHING_CAN_SUCCEED,
    QuotaExhaustedError: _NOTHING_CAN_SUCCEED,
    BackendError: Meaning(task_fails=True),
}


def meaning_of(error: BackendError) -> Meaning:
    """What the table says of the error, or of the nearest class that it derives from."""
    kinds = (kind for kind in type(error).__mro__ if issubclass(kind, BackendError))
    return next(MEANINGS[kind] for kind in kinds if kind in MEANINGS)
