"""The embedded model: llama.cpp's own server inside this process, on a loopback port, behind a random key.

It is started at the first question, in the worker: started before a fork, the workers crash at exit.
"""

import os
import secrets
import threading
from typing import Any

import httpx2
from openai import OpenAI

from llm_backend.errors import ConnectionFailedError
from llm_backend.operations.redaction import hide
from llm_backend.values import Endpoint

TITLE = "The embedded model"
NOT_HONOURED = frozenset({"n", "pictures"})
USES_PROXY = False

_SLOTS = 2  # completions side by side; they share the context
_CONTEXT_TOKENS = 8192
# llama.cpp's threads wait for one another at every layer: where anything else wants the cores, as many
# threads as cores are ten times slower than half of them.
_THREADS = max(1, (os.cpu_count() or 2) // 2)
_MAX_REPLY_TOKENS = 256  # a small model may otherwise ramble on until its context is full

_lock = threading.Lock()
_servers: dict[str, tuple[Any, str]] = {}


def make_client(endpoint: Endpoint, http_client: httpx2.Client) -> OpenAI:
    """The client of this process's llama.cpp server for the model file, which is started if need be.

    Raises:
        ConnectionFailedError: the model cannot be loaded.
    """
    server, api_key = _started(endpoint.model_path)
    return OpenAI(
        api_key=api_key,
        base_url=f"{server.listening_address}/v1",
        http_client=http_client,
        max_retries=0,
    )


def _started(model_path: str) -> tuple[Any, str]:
    with _lock:
        if model_path not in _servers:
            _servers[model_path] = _start(model_path)
        return _servers[model_path]


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
