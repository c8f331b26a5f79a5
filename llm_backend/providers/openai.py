"""OpenAI, and every server that speaks its Chat Completions API."""

import httpx2
from openai import OpenAI

from llm_backend.values import Endpoint

TITLE = "OpenAI"
NOT_HONOURED: frozenset[str] = frozenset()
USES_PROXY = True


def make_client(endpoint: Endpoint, http_client: httpx2.Client) -> OpenAI:
    """The client for this endpoint. Key and address are explicit: left out, they come from anywhere."""
    return OpenAI(
        api_key=endpoint.api_key, base_url=endpoint.base_url, http_client=http_client, max_retries=0
    )
