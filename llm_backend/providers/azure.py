"""Azure OpenAI: a deployment in a resource, asked with an API version."""

import httpx2
from openai import AzureOpenAI, OpenAI

from llm_backend.values import Endpoint

TITLE = "Azure OpenAI"
NOT_HONOURED: frozenset[str] = frozenset()
USES_PROXY = True


def make_client(endpoint: Endpoint, http_client: httpx2.Client) -> OpenAI:
    """The client that asks `/openai/deployments/<name>/chat/completions?api-version=…` of the resource."""
    return AzureOpenAI(
        api_key=endpoint.api_key,
        azure_endpoint=endpoint.base_url,
        azure_deployment=endpoint.deployment_name,
        api_version=endpoint.api_version,
        http_client=http_client,
        max_retries=0,
    )
