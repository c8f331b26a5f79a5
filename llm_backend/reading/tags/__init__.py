"""The object tags that can be read: a module each, which registers its tag when it is imported.

One more tag is one more module and one more line here. People are told of the tags in this order.
"""

from llm_backend.reading.tags import (  # noqa: F401, I001
    text,
    hypertext,
    paragraphs,
    image,
)
