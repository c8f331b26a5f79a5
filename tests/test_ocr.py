"""OCR of receipts, with the real tesseract. `python -m benchmarks.images` does it with 200."""

import io
import shutil

import pytest

from llm_backend.reading.ocr import read_text
from llm_backend.reading.pictures import Limits, prepare_pictures
from llm_backend.values import PicturePart
from testkit.pictures import encoded, written
from testkit.receipts import make_receipts

pytestmark = pytest.mark.skipif(not shutil.which("tesseract"), reason="tesseract is not installed")
LIMITS = Limits(max_side=2048, max_pages=3, max_pixels=50_000_000)


def pictures(file: bytes) -> tuple[PicturePart, ...]:
    """The file as OCR gets it."""
    return prepare_pictures(io.BytesIO(file), LIMITS)


def test_the_totals_of_receipts_are_found() -> None:
    """Of nearly all, those that EXIF turns among them."""
    receipts = make_receipts(16)
    found = [receipt.total in read_text(pictures(receipt.file), ["eng"]) for receipt in receipts]
    assert sum(found) >= 15
    assert any(hit for hit, receipt in zip(found, receipts, strict=True) if receipt.orientation != 1)


def test_all_pages_are_read_in_order() -> None:
    """With an empty line between them."""
    pages = [written("FIRST PAGE"), written("SECOND PAGE")]
    file = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert read_text(pictures(file), ["eng"]) == "FIRST PAGE\n\nSECOND PAGE"


def test_small_letters_are_read() -> None:
    """A picture that is small is enlarged first."""
    assert "TOTAL 12.34" in read_text(pictures(encoded(written("SHOP\nTOTAL 12.34", 13), "PNG")), ["eng"])
