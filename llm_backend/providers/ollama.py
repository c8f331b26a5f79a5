"""Ollama, through its OpenAI-compatible address. It needs no key and gives one reply whatever `n` says."""

from llm_backend.providers.openai import make_client

__all__ = ["NOT_HONOURED", "TITLE", "USES_PROXY", "make_client"]

TITLE = "Ollama"
NOT_HONOURED = frozenset({"n"})
USES_PROXY = True
