"""What `/health` says: whether the server can do its work, and if not, what to do about it."""

from datetime import UTC, datetime

from llm_backend import __version__
from llm_backend.operations.provider_status import Ended
from llm_backend.parameters import missing_settings
from llm_backend.services import Services
from llm_backend.values import Json

_PATIENCE_SECONDS = 0.05  # Label Studio waits a second in all
_SLOW_SECONDS = 5.0


def health_of(services: Services, *, with_reason: bool) -> Json:
    """The body of `/health`; waits no longer than 0.05 seconds, whatever hangs.

    The status is always UP: Label Studio asks nothing of a backend that is not, and part of the work may
    still be possible. `with_reason` shows the reason of a failed completion, which may quote the provider.
    """
    own = services.parameters
    last = services.provider_status.last()
    return {
        "status": "UP",
        "model_class": "InteractiveLLM",
        "version": __version__,
        "provider": own.endpoint.provider,
        "model": own.model,
        "missing": missing_settings(own),
        "problems": _problems(services),
        "last_completion": last and _ended(last, with_reason=with_reason),
    }


def _problems(services: Services) -> list[str]:
    probed = services.state_problems.ask(_PATIENCE_SECONDS)
    if probed.answer:
        return list(probed.answer)
    if probed.waiting > _SLOW_SECONDS:
        return [
            f"The database has not answered for {probed.waiting:.0f} s: check the disk of MODEL_DIR, "
            "or the server of DATABASE_URL"
        ]
    return []


def _ended(last: Ended, *, with_reason: bool) -> Json:
    at = datetime.fromtimestamp(last.at, UTC).isoformat(timespec="seconds")
    if not last.code:
        return {"succeeded": True, "at": at}
    reason = last.reason if with_reason else "Ask with the credentials of Basic auth, or read the log"
    return {"succeeded": False, "at": at, "code": last.code, "reason": reason}
