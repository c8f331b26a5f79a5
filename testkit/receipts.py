"""Pictures of receipts with known totals: tinted, noisy, tilted and turned by EXIF, as phones take them."""

import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFilter, ImageFont

from testkit.pictures import encoded

_FONTS = [
    f"/usr/share/fonts/truetype/dejavu/{name}.ttf"
    for name in ("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif")
]
_GOODS = ["Milk 1l", "Bread", "Coffee 250g", "Apples 1kg", "Cheese", "Butter", "Rice 2kg", "Diesel",
          "Espresso", "Caesar salad", "Batteries AA", "Paint white", "Shampoo", "Train ticket",
          "Notebook A5"]  # fmt: skip
_SHOPS = ["GREEN GROCER", "CITY MARKET", "Cafe Central", "FUEL STOP 24", "Hardware & Home", "Book Corner"]
_WORDS_FOR_TOTAL = ["TOTAL", "Total", "TOTAL DUE", "AMOUNT DUE", "Grand total"]
_TURNED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@dataclass(frozen=True)
class Receipt:
    """The file of a picture, and the total that OCR must find. `orientation` is EXIF's; 1 means upright."""

    file: bytes
    total: str
    orientation: int


def make_receipts(number: int, seed: int = 1) -> list[Receipt]:
    """`number` different receipts. EXIF turns every fourth. The same seed gives the same receipts."""
    draw = random.Random(seed)
    return [_receipt(draw, draw.choice([3, 6, 8]) if index % 4 == 3 else 1) for index in range(number)]


def _receipt(draw: random.Random, orientation: int) -> Receipt:
    prices = [draw.randrange(50, 9999) for _ in range(draw.randrange(3, 9))]
    total = f"{sum(prices) / 100:.2f}"
    lines = [(draw.choice(_GOODS), f"{price / 100:.2f}") for price in prices]
    lines += [("", ""), (draw.choice(_WORDS_FOR_TOTAL), total), ("VAT 19%", f"{sum(prices) / 626:.2f}")]
    size = draw.randrange(20, 44)
    font = ImageFont.truetype(draw.choice(_FONTS), size)
    margin, step = size * 2, round(size * draw.uniform(1.3, 1.7))
    width, height = size * 18 + 2 * margin, step * (len(lines) + 5) + 2 * margin
    paper = Image.new("RGB", (width, height), tuple(draw.randrange(225, 256) for _ in range(3)))
    ink = tuple(draw.randrange(0, 70) for _ in range(3))
    pen = ImageDraw.Draw(paper)
    pen.text((width / 2, margin), draw.choice(_SHOPS), ink, font, anchor="ma")
    date = f"{draw.randrange(1, 29)}.10.2026  14:{draw.randrange(10, 59)}"
    pen.text((width / 2, margin + step), date, ink, font, anchor="ma")
    for row, (name, amount) in enumerate(lines, 3):
        pen.text((margin, margin + row * step), name, ink, font)
        pen.text((width - margin, margin + row * step), amount, ink, font, anchor="ra")
    pen.text((width / 2, margin + (len(lines) + 4) * step), "Thank you!", ink, font, anchor="ma")
    return Receipt(_photographed(paper, draw, orientation), total, orientation)


def _photographed(paper: Image.Image, draw: random.Random, orientation: int) -> bytes:
    tilted = paper.rotate(
        draw.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, expand=True, fillcolor=(200, 200, 195)
    )
    noise = Image.effect_noise(tilted.size, draw.randrange(5, 30)).convert("RGB")
    photo = Image.blend(tilted, noise, 0.08).filter(ImageFilter.GaussianBlur(draw.uniform(0, 0.8)))
    exif = Image.Exif()
    if orientation != 1:
        photo = photo.transpose(_TURNED[orientation])
        exif[0x0112] = orientation
    return encoded(photo, "JPEG", quality=draw.randrange(60, 95), exif=exif)
