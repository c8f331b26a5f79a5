"""Pictures → their text, by tesseract. It runs in a process of its own, which can be ended."""

import os
import re
import subprocess
import threading
from collections.abc import Sequence

from llm_backend.errors import InputError
from llm_backend.reading.pictures import enlarged, picture_bytes
from llm_backend.values import PicturePart

_TIMEOUT_SECONDS = 30.0  # for a page
_READABLE_SIDE = 1200  # below it, letters of a page are smaller than tesseract likes
# `--psm 6` reads one block of text, line by line: otherwise tesseract takes the amounts at the right edge of
# a receipt for a column of their own, away from what they are for; `python -m benchmarks.images` measures it.
# `env` leaves tesseract one thread, which is faster than several when several pages are read at once.
_COMMAND = ["env", "OMP_THREAD_LIMIT=1", "tesseract", "stdin", "stdout", "--psm", "6", "-l"]

# tesseract takes a core; more side by side only fight for them.
_running = threading.BoundedSemaphore(os.cpu_count() or 1)


def read_text(pictures: Sequence[PicturePart], languages: Sequence[str]) -> str:
    """The text of all the pictures, page after page.

    Raises:
        InputError: there is no text in them, or tesseract cannot be used.
    """
    text = "\n\n".join(filter(None, (_page(picture, languages) for picture in pictures)))
    if not text:
        raise InputError("OCR finds no text in the picture: a model that sees pictures may (IMAGE_INPUT)")
    return text


def missing_languages(languages: Sequence[str]) -> list[str] | None:
    """Those of the languages that tesseract has no data for; None when it is not installed."""
    command = ["tesseract", "--list-langs"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    has = done.stdout.decode("utf-8", "replace").split()
    return [language for language in languages if language not in has]


def _page(picture: PicturePart, languages: Sequence[str]) -> str:
    command = [*_COMMAND, "+".join(languages)]
    with _running:
        file = enlarged(picture_bytes(picture), _READABLE_SIDE)
        try:
            done = subprocess.run(  # noqa: S603 - no shell, and the languages are letters only
                command, input=file, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            raise InputError(f"OCR of the picture took more than {_TIMEOUT_SECONDS:.0f} s") from None
        except OSError:
            raise _not_installed() from None
    if done.returncode == 127:
        raise _not_installed()
    if b"traineddata" in done.stderr or b"couldn't load any languages" in done.stderr:
        raise InputError(
            f"OCR has no data for OCR_LANGUAGES={','.join(languages)}: "
            "install Debian's tesseract-ocr-<language>"
        )
    if done.returncode:
        raise InputError("OCR cannot read the picture")
    text = re.sub(r"(?<=\d) ([.,]) (?=\d\d\b)", r"\1", done.stdout.decode("utf-8", "replace"))
    lines = (line.rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def _not_installed() -> InputError:
    return InputError(
        "OCR needs tesseract on the server: install Debian's tesseract-ocr, or use IMAGE_INPUT=vision"
    )
