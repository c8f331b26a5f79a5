"""The error of the demo: a sentence that says what to do."""


class DemoError(Exception):
    """The demo cannot go on; the message is for the person who started it."""
