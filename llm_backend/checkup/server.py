"""This server alone: its settings, its state, the LLM, OCR, and whether it is running."""

import json
import os
import time
from contextlib import closing
from http.client import HTTPConnection, HTTPException

from llm_backend.asking.completions import Completions
from llm_backend.checkup.findings import Finding, failed, ok, warning
from llm_backend.parameters import parse_extra_params, require_settings, resolve_parameters
from llm_backend.reading.ocr import missing_languages
from llm_backend.settings import PROJECT_ROOT, Settings
from llm_backend.storage import Database
from llm_backend.values import CompletionRequest, Message, Parameters

_HEALTH_SECONDS = 5.0
_MOST_HEALTH_BYTES = 1024 * 1024
MODEL_CLASS = "InteractiveLLM"


def usable_settings(settings: Settings) -> Finding:
    """Whether the provider has all that it needs."""
    parameters = _parameters(settings)
    require_settings(parameters)
    return ok(f"settings: provider {parameters.endpoint.provider}, model {parameters.model}")


def state(settings: Settings, database: Database) -> Finding:
    """Whether state can be written. None is made where there is none; a corrupt one stays where it is."""
    folder = settings.model_dir.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return failed(
            f"state: the folder {there} cannot be written by this user: change its owner, or set MODEL_DIR"
        )
    if database.file is not None and not database.file.exists():
        return ok(f"state: {database.file} will be made at the first start")
    database.check_writable()
    return ok(f"state: {database.file or 'the database of DATABASE_URL'} can be written")


def completion(settings: Settings, completions: Completions, database: Database) -> Finding:
    """One completion, which is paid for. It is not kept; the ledger has its row where there is a database."""
    parameters = _parameters(settings)
    prompt = (PROJECT_ROOT / "prompt_templates" / "check.txt").read_text(encoding="utf-8").strip()
    request = CompletionRequest(parameters.model, (Message("user", prompt),), parameters.temperature)
    started = time.monotonic()
    is_there = database.file is None or database.file.exists()
    answer = completions.check(request, parameters.endpoint, in_ledger=is_there)
    milliseconds = (time.monotonic() - started) * 1000
    return ok(
        f"completion: {parameters.model} answered in {milliseconds:.0f} ms, "
        f"{answer.prompt_tokens} + {answer.completion_tokens} tokens"
    )


def ocr(settings: Settings) -> Finding:
    """Whether tesseract is there for pictures that the model does not take."""
    missing = missing_languages(settings.ocr_languages)
    languages = ",".join(settings.ocr_languages)
    if missing is None:
        return warning(
            "OCR: tesseract is not installed, which is needed for pictures where the model takes none: "
            "install Debian's tesseract-ocr, or set IMAGE_INPUT=vision"
        )
    if missing:
        return warning(
            f"OCR: tesseract has no data for {','.join(missing)} of OCR_LANGUAGES={languages}: "
            "install Debian's tesseract-ocr-<language>"
        )
    return ok(f"OCR: tesseract is there, with {languages}")


def without_label_studio(settings: Settings) -> Finding:
    """What is not checked, and does not work, without an address of Label Studio."""
    text = (
        "Label Studio: not checked, because LABEL_STUDIO_URL is not set. With it and LABEL_STUDIO_API_KEY "
        "its projects are checked, what is not done within 100 s is delivered, and its files can be read"
    )
    if settings.label_studio_api_key is not None:
        return warning(f"{text}; LABEL_STUDIO_API_KEY alone does nothing")
    return ok(text)


class Running:
    """Whether this server is running on its port by now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.is_ours = False

    def finding(self) -> Finding:
        """What answers on the port, as `/health` tells it."""
        port, parameters = self._settings.port, _parameters(self._settings)
        try:
            with closing(HTTPConnection("127.0.0.1", port, timeout=_HEALTH_SECONDS)) as connection:
                connection.request("GET", "/health")
                health = json.loads(connection.getresponse().read(_MOST_HEALTH_BYTES))
            self.is_ours = health["model_class"] == MODEL_CLASS
        except ConnectionRefusedError:
            return ok(f"server: none is running on port {port} at the moment")
        except TimeoutError:
            return failed(f"server: what listens on port {port} does not answer within 5 s: start it again")
        except (HTTPException, OSError, ValueError, KeyError, TypeError):
            self.is_ours = False
        if not self.is_ours:
            return failed(f"server: another program listens on port {port}: set another PORT, or end it")
        has = health.get("provider"), health.get("model")
        if has != (parameters.endpoint.provider, parameters.model):
            return warning(
                f"server: the one on port {port} has provider {has[0]} and model {has[1]}, "
                "which is not what was checked here: start it again"
            )
        return ok(f"server: running on port {port}, version {health.get('version')}")


def _parameters(settings: Settings) -> Parameters:
    return resolve_parameters(settings, parse_extra_params(None))
