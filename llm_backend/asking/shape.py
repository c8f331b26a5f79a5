"""Labeling config + settings + extra params + prompt → `Shape`: everything that shapes an answer.

What must not count (keys, timeouts, concurrency) is not in it: `Access` has what asking needs besides.
"""

import functools
import json
from dataclasses import dataclass, fields
from pathlib import Path

from llm_backend.asking.prompts import wording
from llm_backend.errors import MissingSettingsError
from llm_backend.label_studio.files import LabelStudio, label_studio_for
from llm_backend.labeling.config import LabelingConfig, parse_labeling_config
from llm_backend.labeling.controls import CONTROLS, Control, Form
from llm_backend.labeling.source import Source
from llm_backend.parameters import parse_extra_params, require_settings, resolve_parameters
from llm_backend.plain import as_plain, digest, from_plain
from llm_backend.reading import TAGS, readable
from llm_backend.settings import Settings
from llm_backend.storage import Project
from llm_backend.values import Endpoint, Json, Parameters

_MOST_KEPT = 128
_digest = functools.lru_cache(maxsize=512, typed=True)(digest)  # 1, 1.0 and True are equal, not the same


@dataclass(frozen=True, slots=True)
class Model:
    """Who answers: an endpoint without its key, and the name of the model there."""

    provider: str
    base_url: str
    deployment_name: str
    api_version: str
    file: str
    name: str


@dataclass(frozen=True)
class Shape:
    """All that shapes the answers for a project's tasks, and nothing else. Without a prompt nothing is asked.

    `prompt_is_template` says that the prompt's placeholders are filled; `template` wraps the prompt, if one
    does. `prompt_name` is the TextArea of the prompt, `source` the object that is read, `reading` the options
    with which, `controls` are those that are filled. `wording` is what a model is told of them.
    """

    model: Model
    temperature: float
    num_responses: int
    prompt: str | None
    prompt_is_template: bool
    template: str | None
    prompt_name: str
    source: Source
    reading: object
    controls: tuple[Control, ...]
    form: Form
    wording: tuple[str, ...]

    @functools.cached_property
    def model_version(self) -> str:
        """The model's name and a hash of the whole value; Label Studio asks again when it changes."""
        parts = [_digest(getattr(self, field.name)) for field in fields(self)]
        return f"{self.model.name}-{digest(parts)[:8]}"

    def as_json(self) -> str:
        """The value as JSON, for the database."""
        return json.dumps(as_plain(self))


def shape_from_json(stored: str) -> Shape:
    """The shape that `as_json` has given.

    Raises:
        MissingSettingsError: another version of this program made it.
    """
    try:
        shape = from_plain(json.loads(stored), _types())
    except ValueError:
        shape = None
    if not isinstance(shape, Shape):
        raise MissingSettingsError("The server has been updated since: start the batch again")
    return shape


@dataclass(frozen=True, slots=True)
class Access:
    """With what a project's questions are asked and its files are read: an endpoint with its key, and the
    Label Studio that has the files.
    """

    endpoint: Endpoint
    label_studio: LabelStudio | None = None

    def reaches(self, shape: Shape) -> bool:
        """Whether this endpoint is the one of the shape's model."""
        return _model(self.endpoint, shape.model.name) == shape.model


class Shapes:
    """Makes shapes and access of projects from the server's settings; keeps the last ones."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made = functools.lru_cache(maxsize=_MOST_KEPT)(self._make)
        self._resolved = functools.lru_cache(maxsize=_MOST_KEPT)(self._resolve)

    def config(self, label_config: str) -> LabelingConfig:
        """What the labeling config asks for.

        Raises:
            LabelingConfigError: it cannot work.
        """
        settings = self._settings
        return parse_labeling_config(label_config, settings.prompt_prefix, settings.fill, readable())

    def shape(self, label_config: str, extra_params: Json, prompt: str | None) -> Shape:
        """The shape of a project's answers. Without a `prompt` the default prompt is taken.

        Raises:
            LabelingConfigError: the labeling config cannot work.
            ExtraParamsError: the extra params cannot be.
        """
        return self._made(label_config, json.dumps(extra_params), prompt)

    def parameters(self, extra_params: Json) -> Parameters:
        """What a project's completions are made with.

        Raises:
            ExtraParamsError: the extra params cannot be.
        """
        return self._resolved(json.dumps(extra_params))

    def access(self, project: str, known: Project, extra_params: Json) -> Access:
        """What a project's questions are asked and its files are read with.

        Raises:
            ExtraParamsError: the extra params cannot be.
            MissingSettingsError: a key or an address has not been set.
        """
        parameters = self.parameters(extra_params)
        require_settings(parameters)
        label_studio = label_studio_for(
            self._settings, project, setup_url=known.label_studio_url, setup_token=known.label_studio_token
        )
        return Access(parameters.endpoint, label_studio)

    def _resolve(self, extra_params: str) -> Parameters:
        return resolve_parameters(self._settings, parse_extra_params(json.loads(extra_params)))

    def _make(self, label_config: str, extra_params: str, prompt: str | None) -> Shape:
        config, parameters = self.config(label_config), self._resolved(extra_params)
        prompt = prompt or parameters.default_prompt
        internal = parameters.use_internal_prompt_template
        form = _form(config, self._settings.response_format)
        return Shape(
            model=_model(parameters.endpoint, parameters.model),
            temperature=parameters.temperature,
            num_responses=parameters.num_responses,
            prompt=prompt,
            prompt_is_template=not internal or prompt == parameters.default_prompt,
            template=parameters.prompt_template if internal else None,
            prompt_name=config.prompt,
            source=config.source,
            reading=TAGS[config.source.tag].options(self._settings),
            controls=config.controls,
            form=form,
            wording=wording(config.controls, form),
        )


def _form(config: LabelingConfig, response_format: str) -> Form:
    """How replies are asked for: as JSON where there is more to fill than a text."""
    controls = config.controls
    if response_format == "json":
        return "json"
    if response_format == "auto":
        return "json" if len(controls) > 1 or controls[0].closed else "plain"
    return "plain" if all(control.plain for control in controls) else "lines"


def _model(endpoint: Endpoint, name: str) -> Model:
    return Model(
        provider=endpoint.provider,
        base_url=endpoint.base_url,
        deployment_name=endpoint.deployment_name,
        api_version=endpoint.api_version,
        file=Path(endpoint.model_path).name,
        name=name,
    )


def _types() -> dict[str, type]:
    """The dataclasses of which a shape consists, by name."""
    own = [Shape, Model, Source]
    of_reading = [tag.options_type for tag in TAGS.values() if tag.options_type]
    of_controls = [part for kind in CONTROLS.values() for part in (kind, *kind.parts)]
    return {kind.__name__: kind for kind in (*own, *of_reading, *of_controls)}
