"""A Label Studio ML backend that asks chat LLMs."""

__version__ = "0.1.0"
