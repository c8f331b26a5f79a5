"""A file's bytes, which nobody vouches for → pictures as a model takes them. The only module with Pillow."""

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import IO

from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from llm_backend.errors import InputError
from llm_backend.values import PicturePart

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_MULTI_PAGE_FORMATS = ("TIFF",)  # the frames of a GIF or WebP are an animation's
_LOSSY_FORMATS = ("JPEG", "MPO", "WEBP")
_AS_THEY_ARE = ("L", "RGB", "LA", "RGBA", "CMYK", "YCbCr")  # modes that can be scaled down well
_SIXTEEN_BITS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_COLOURS_OF_A_DRAWING = 256
_JPEG_QUALITY = 85
_SMOOTHING = 1.3  # pixels, for OCR: tesseract takes noise for strokes
_MANY_PIXELS = 16_000_000

# Beyond this many pixels pictures are unpacked one after the other, to keep within memory.
_one_large_picture = threading.Lock()


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_side` pixels is the longest side of what is given; more than `max_pixels` are not read."""

    max_side: int
    max_pages: int
    max_pixels: int


def prepare_pictures(file: IO[bytes], limits: Limits) -> tuple[PicturePart, ...]:
    """The pictures in the file, at least one: turned as EXIF says, without alpha, small enough, PNG or JPEG.

    The same bytes give the same result. A JPEG is read at half, a quarter or an eighth of its size where that
    is enough, to keep memory low.

    Raises:
        InputError: it is not a picture of a known format, it is broken, or it has too many pixels.
    """
    Image.MAX_IMAGE_PIXELS = limits.max_pixels  # what a codec unpacks on its own account is bounded, too
    try:
        with Image.open(file, formats=_FORMATS) as picture:
            _check_size(picture, limits)
            picture.verify()
        file.seek(0)
        with Image.open(file, formats=_FORMATS) as picture:
            picture.draft(None, (limits.max_side, limits.max_side))
            large = picture.width * picture.height > _MANY_PIXELS
            with _one_large_picture if large else nullcontext():
                return tuple(_prepared(page, limits) for page in _pages(picture, limits))
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            "The picture is of a kind that cannot be read: use JPEG, PNG, WebP, GIF, BMP or TIFF"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(limits) from None
    except MemoryError:
        raise InputError("The picture needs more memory than there is") from None
    except Exception as error:  # codecs raise whatever a broken file makes them stumble over
        raise InputError("The picture is broken, or of a variety that cannot be read") from error


def picture_bytes(picture: PicturePart) -> bytes:
    """The PNG or JPEG file in the data URL."""
    return base64.b64decode(picture.data_url.partition(",")[2])


def enlarged(file: bytes, side: int) -> bytes:
    """The picture in grey as a PNG file; with a longer side under `side` it is scaled up, thrice at most."""
    with Image.open(io.BytesIO(file)) as picture:
        grey = picture.convert("L")
        factor = min(3, side / max(grey.size))
        if factor > 1:
            size = round(grey.width * factor), round(grey.height * factor)
            grey = grey.resize(size, Image.Resampling.LANCZOS)
        return _encoded(grey.filter(ImageFilter.GaussianBlur(_SMOOTHING)), "PNG")


def _pages(picture: Image.Image, limits: Limits) -> Iterator[Image.Image]:
    yield picture
    for page in range(1, limits.max_pages if picture.format in _MULTI_PAGE_FORMATS else 1):
        try:
            picture.seek(page)
        except EOFError:
            return
        _check_size(picture, limits)
        yield picture


def _check_size(picture: Image.Image, limits: Limits) -> None:
    if picture.width * picture.height > limits.max_pixels:
        raise _too_many_pixels(limits)


def _too_many_pixels(limits: Limits) -> InputError:
    return InputError(f"The picture has more than {limits.max_pixels} pixels: IMAGE_MAX_PIXELS is the limit")


def _prepared(page: Image.Image, limits: Limits) -> PicturePart:
    lossy = page.format in _LOSSY_FORMATS
    side = limits.max_side
    if page.mode in _SIXTEEN_BITS:
        page = page.convert("I").point(lambda value: value / 256).convert("L")
    elif page.mode not in _AS_THEY_ARE:
        has_alpha = page.has_transparency_data
        page = page.convert("RGBA" if has_alpha else "L" if page.mode == "1" else "RGB")
    elif page.mode in ("L", "RGB") and page.has_transparency_data:
        page = page.convert("RGBA")  # a PNG that declares one colour to be transparent
    page.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    page = _without_alpha(_turned(page))
    if not lossy and page.getcolors(_COLOURS_OF_A_DRAWING):
        return _data_url("png", _encoded(page, "PNG"))
    return _data_url("jpeg", _encoded(page, "JPEG"))


def _turned(page: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(page)
    except Exception:  # broken EXIF raises anything; the picture itself may be good
        return page


def _without_alpha(page: Image.Image) -> Image.Image:
    """On white, as a browser shows it."""
    if page.mode in ("RGBA", "LA"):
        white = Image.new("RGBA", page.size, "white")
        white.alpha_composite(page.convert("RGBA"))
        return white.convert("RGB")
    return page if page.mode in ("L", "RGB") else page.convert("RGB")


def _encoded(page: Image.Image, file_format: str) -> bytes:
    bare = Image.new(page.mode, page.size)  # without EXIF, colour profile and comments
    bare.paste(page)
    file = io.BytesIO()
    bare.save(file, file_format, quality=_JPEG_QUALITY)
    return file.getvalue()


def _data_url(kind: str, file: bytes) -> PicturePart:
    return PicturePart(f"data:image/{kind};base64,{base64.b64encode(file).decode()}")
