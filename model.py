"""The model: how a request of Label Studio becomes a prediction. Read `InteractiveLLM.predict` first."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from label_studio_sdk.label_interface.interface import LabelInterface

from llm_backend.asking.asking import task_id_of
from llm_backend.asking.completions import Purpose
from llm_backend.asking.shape import Access, Shape
from llm_backend.errors import UNEXPECTED, BackendError, LabelingConfigError, StorageError
from llm_backend.label_studio.regions import clear_stale, empty_prediction, error_prediction
from llm_backend.labeling.config import LabelingConfig
from llm_backend.labeling.controls.textarea import TextArea
from llm_backend.ml_base import LabelStudioMLBase
from llm_backend.operations import logs
from llm_backend.parameters import check_address, parse_extra_params, require_settings
from llm_backend.services import Services, services_of_this_process
from llm_backend.storage import Project
from llm_backend.storage.write_behind import Record
from llm_backend.values import Json, Usage

_log = logging.getLogger(__name__)
_SUBMITTED = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED")


class InteractiveLLM(LabelStudioMLBase):
    """Answers the prompt that a person typed, or the one the project used last, with an LLM."""

    def __init__(
        self,
        project_id: str | None = None,
        label_config: str | None = None,
        *,
        services: Services | None = None,
    ) -> None:
        self._services = services or services_of_this_process()
        super().__init__(project_id, label_config)

    def predict(
        self, tasks: Sequence[Json], context: Json | None = None, **kwargs: Any
    ) -> list[Json | list[Json]]:
        """One entry per task, in order. With a context the request is interactive: one task, a person waits.

        What the request came to is in `usage` afterwards.

        Raises:
            BackendError: the request as a whole cannot be answered; the reason says what to do.
        """
        if context:
            [task] = tasks
            with logs.context(task=task_id_of(task)):
                return [self._answer_person(task, context)]
        shape = self._shape(self._project.prompt)
        if shape.prompt is None:
            return [[] for _ in tasks]
        if len(tasks) == 1:
            return [self._answer_opened(shape, tasks[0])]
        require_settings(self._services.shapes.parameters(self.extra_params))
        with self._services.admission.place():
            entries, self.usage = self._services.batches.run(
                self.project_id, shape, self._config_text, self.extra_params, tasks
            )
        return entries

    def fit(self, event: str, data: Json, **kwargs: Any) -> Json:
        """Remembers the prompt of a submitted annotation. Only a project known from `/setup` has a memory."""
        if event not in _SUBMITTED or self.label_config is None:
            return {}
        annotations = data.get("annotation")
        for annotation in annotations if isinstance(annotations, list) else [annotations]:
            if isinstance(annotation, dict) and not annotation.get("was_cancelled"):
                prompt = _typed_prompt(self.config, annotation)
                if prompt:
                    self._services.projects.remember_prompt(self.project_id, prompt)
        return {}

    def set_extra_params(self, extra_params: Any) -> None:
        """Checks and keeps what `/setup` brought, so that the project's predictions use it.

        Raises:
            BackendError: the labeling config or the extra params cannot work, or a setting is missing.
        """
        extra = parse_extra_params(extra_params).as_json()
        shapes = self._services.shapes
        shapes.shape(self._config_text, extra, None)
        for control in shapes.config(self._config_text).left_alone:
            _log.warning("Left alone in project %s: %s", self.project_id, control)
        parameters = shapes.parameters(extra)
        require_settings(parameters)
        check_address(parameters, self._services.settings)
        self._extra_params = extra
        if self.project_id:
            self._services.projects.remember_setup(self.project_id, self._config_text, extra)
            self.__dict__.pop("_project", None)

    def set_label_studio(self, url: str, token: str) -> None:
        """Keeps the address and the token that `/setup` brought, where Basic auth says who sent them.

        Without it they are not kept: anybody could name this project's Label Studio.
        """
        if self.project_id and self._services.settings.basic_auth_user is not None:
            self._services.projects.remember_label_studio(self.project_id, url.rstrip("/"), token)
            self.__dict__.pop("_project", None)

    @property
    def label_config(self) -> str | None:
        """The labeling config of the request, else the one that `/setup` brought."""
        return self._label_config or self._project.label_config

    @property
    def label_interface(self) -> LabelInterface:
        """The labeling config as label-studio-sdk parses it."""
        return self.config.interface

    @property
    def extra_params(self) -> Json:
        """The extra params of this `/setup`, else those that the project's last one brought."""
        if self._extra_params is None:
            return self._project.extra_params or {}
        return self._extra_params

    @property
    def model_version(self) -> str:
        """The version that predictions have which use the project's present prompt."""
        return self._shape(self._project.prompt).model_version

    @property
    def config(self) -> LabelingConfig:
        """What the labeling config asks for."""
        return self._services.shapes.config(self._config_text)

    @functools.cached_property
    def _project(self) -> Project:
        return self._services.projects.get(self.project_id) if self.project_id else Project()

    def _answer_person(self, task: Json, context: Json) -> Json:
        """The prediction for the person who waits. Why there is none goes into the response box.

        Raises:
            BackendError: there is no response box for the reason, or SHOW_ERRORS is off.
        """
        config = self.config
        if not context.get("result"):  # Label Studio asks so on Submit: nobody typed anything
            return empty_prediction()
        prompt = _typed_prompt(config, context)
        try:
            shape = self._shape(prompt or self._project.prompt)
            if shape.prompt is None:
                prediction = empty_prediction()
            else:
                prediction = self._ask(shape, task, Purpose.INTERACTIVE)
                self._remember_used(shape.prompt)
        except Exception as failure:
            error = failure if isinstance(failure, BackendError) else BackendError(UNEXPECTED)
            self._services.metrics.task(error.code)
            if not self._services.settings.show_errors or config.response is None:
                raise
            if error is not failure:
                _log.exception("Unexpected error")
            _log.warning("Project %s: no prediction: %s", self.project_id, error.logged)
            _log.debug("The reason: %s", error.reason)
            self.usage = replace(self.usage, predicted=0, outcome=error.code)
            prediction = error_prediction(
                config.prompt, config.source.name, prompt, config.response, error.reason
            )
        clear_stale(config.controls, config.source.name, prediction, context)
        return prediction

    def _answer_opened(self, shape: Shape, task: Json) -> Json:
        """The prediction for a task that a person opens, which is no batch, and ends none."""
        try:
            return self._ask(shape, task, Purpose.OPENED)
        except BackendError as error:
            self._services.metrics.task(error.code)
            raise

    def _ask(self, shape: Shape, task: Json, purpose: Purpose) -> Json:
        """The prediction for a person who waits; what it proposes is kept."""
        access = self._access
        with self._services.admission.place():
            predicted = self._services.asking.predict(
                shape, access, task, purpose=purpose, project=self.project_id
            )
        self._services.writer.put(Record(proposal=predicted.proposal))
        completion = predicted.completion
        self.usage = Usage(1, tokens_in=completion.prompt_tokens, tokens_out=completion.completion_tokens)
        return predicted.prediction

    def _remember_used(self, prompt: str) -> None:
        """Makes this the prompt of batches. The person gets the answer, which is paid for, in any case."""
        if self._services.settings.remember_prompt != "used" or prompt == self._project.prompt:
            return
        try:
            self._services.projects.remember_prompt(self.project_id, prompt)
        except StorageError as error:
            _log.error("The prompt of project %s is not remembered: %s", self.project_id, error.logged)

    @property
    def _config_text(self) -> str:
        if not self.label_config:
            raise LabelingConfigError("There is no labeling config: connect the model in Label Studio again")
        return self.label_config

    def _shape(self, prompt: str | None) -> Shape:
        return self._services.shapes.shape(self._config_text, self.extra_params, prompt)

    @property
    def _access(self) -> Access:
        return self._services.shapes.access(self.project_id, self._project, self.extra_params)


def _typed_prompt(config: LabelingConfig, context: Json | None) -> str | None:
    """The prompt in the regions of a context or an annotation: of several submissions the last one counts."""
    typed = TextArea(config.prompt).from_regions(context.get("result") if context else None)
    return typed[-1] if typed else None
