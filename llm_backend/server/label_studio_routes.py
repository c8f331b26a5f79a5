"""The routes that Label Studio calls: its ML backend protocol."""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from http import HTTPStatus
from typing import Protocol

from flask import Flask, Response

from llm_backend.errors import BackendError
from llm_backend.ml_base import LabelStudioMLBase
from llm_backend.operations.redaction import hide
from llm_backend.server.answers import json_answer, say
from llm_backend.server.basic_auth import has_credentials, is_trusted
from llm_backend.server.health import health_of
from llm_backend.server.payload import context_of, field, read_payload, tasks_of, webhook_project
from llm_backend.services import Services
from llm_backend.values import Usage

_TOKEN = re.compile(r"[\w.-]{30,}")  # of Label Studio; anybody may send what would blank out the log


class ModelFactory(Protocol):
    """Makes the model for one request."""

    def __call__(
        self, project_id: str | None, label_config: str | None, *, services: Services
    ) -> LabelStudioMLBase:
        """A model for the project string and the labeling config of the request."""
        ...


def add_label_studio_routes(app: Flask, make_model: ModelFactory, services: Services) -> None:
    """Adds `/health`, `/setup`, `/predict`, `/webhook` and `/versions`."""
    settings = services.settings

    @app.get("/health")
    def health() -> Response:
        return json_answer(health_of(services, with_reason=is_trusted(settings)))

    @app.post("/setup")
    def setup() -> Response:
        payload = read_payload()
        project = field(payload, "project", str)
        model = make_model(project, field(payload, "schema", str), services=services)
        say(project=project)
        model.set_extra_params(payload.get("extra_params"))
        url = field(payload, "hostname", str, required=False)
        token = field(payload, "access_token", str, required=False)
        if token and _TOKEN.fullmatch(token):
            hide(token)
        if url:
            model.set_label_studio(url, token or "")
        return json_answer({"model_version": model.model_version})

    @app.post("/predict")
    def predict() -> Response:
        payload = read_payload()
        tasks = tasks_of(payload)
        project = field(payload, "project", str, required=False)
        label_config = field(payload, "label_config", str, required=False)
        context = context_of(payload, tasks)
        say(project=project, tasks=len(tasks), **asdict(Usage()))
        model = make_model(project, label_config, services=services)
        results = model.predict(tasks, context=context)
        say(**asdict(model.usage))
        return json_answer({"results": results})

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        if not settings.webhook_is_trusted and not has_credentials(settings):
            say(outcome="ignored")
            return json_answer({"status": "ignored"}), HTTPStatus.CREATED
        payload = read_payload()
        action = field(payload, "action", str)
        project = webhook_project(payload)
        say(project=project)
        if project:
            make_model(project, None, services=services).fit(action, payload)
        return json_answer({"status": "ok"}), HTTPStatus.CREATED

    @app.get("/versions")
    def versions() -> Response:
        return json_answer({"versions": sorted(set(_known_versions(make_model, services)))})


def _known_versions(make_model: ModelFactory, services: Services) -> Iterator[str]:
    """The present model versions of all known projects: Label Studio does not say for which one it asks."""
    for project in services.projects.names():
        with suppress(BackendError):  # a project that cannot work any more has no version
            yield make_model(project, None, services=services).model_version
