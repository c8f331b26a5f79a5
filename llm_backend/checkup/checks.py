"""The checks in the order in which an operator reads them; each is ended when its time is up."""

from collections.abc import Callable, Iterator

from llm_backend.checkup import server
from llm_backend.checkup.findings import Finding, failed, found, ok
from llm_backend.checkup.projects import Projects
from llm_backend.errors import SettingsError
from llm_backend.label_studio.client import Client, client_of
from llm_backend.services import Services, make_services
from llm_backend.settings import Settings, load_settings

_STATE_SECONDS = 45.0  # a little more than the database's own timeout
_GRACE_SECONDS = 5.0
_QUICK_SECONDS = 20.0
_LABEL_STUDIO_SECONDS = 45.0
_PROJECTS_SECONDS = 150.0
_CALL_SECONDS = 10.0

# All checks together, besides the LLM_TIMEOUT of the completion.
LONGEST_SECONDS = (
    _STATE_SECONDS + _GRACE_SECONDS + 2 * _QUICK_SECONDS + _LABEL_STUDIO_SECONDS + _PROJECTS_SECONDS
)


def check(load: Callable[[], Settings] = load_settings) -> Iterator[Finding]:
    """What is found, each finding as soon as it is there."""
    try:
        settings = load()
    except SettingsError as error:
        problems = tuple(failed(problem) for problem in error.problems)
        yield Finding("FAILED", "settings: these cannot be used; nothing else was checked", problems)
        return
    services = make_services(settings, moves_corrupt_aside=False)
    try:
        yield from _check(settings, services)
    finally:
        services.close()


def _check(settings: Settings, services: Services) -> Iterator[Finding]:
    usable = found("settings", _QUICK_SECONDS, lambda: server.usable_settings(settings))
    yield usable
    yield found("state", _STATE_SECONDS, lambda: server.state(settings, services.database))
    if usable.level != "FAILED":
        seconds = settings.llm_timeout + _GRACE_SECONDS
        yield found(
            "completion",
            seconds,
            lambda: server.completion(settings, services.completions, services.database),
        )
    if settings.image_input != "vision":
        yield found("OCR", _QUICK_SECONDS, lambda: server.ocr(settings))
    running = server.Running(settings)
    yield found("server", _QUICK_SECONDS, running.finding)
    if settings.label_studio_url is None:
        yield server.without_label_studio(settings)
        return
    with client_of(settings, timeout=_CALL_SECONDS, retries=0) as label_studio:
        arrival = found("Label Studio", _LABEL_STUDIO_SECONDS, lambda: _arrival(label_studio))
        yield arrival
        if arrival.level == "ok":
            projects = Projects(settings, services, label_studio, is_running=running.is_ours)
            yield from projects.findings(_PROJECTS_SECONDS)


def _arrival(label_studio: Client) -> Finding:
    """Whether Label Studio is reached, and whether it takes the token."""
    there = label_studio.arrive()
    return ok(
        f"Label Studio: {label_studio.url}, version {there.version}, takes the {there.token} of {there.user}"
    )
