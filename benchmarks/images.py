"""`python -m benchmarks.images`: 200 receipts by OCR, and a batch of 500 pictures of 12 megapixels.

`--pictures`, `--receipts` and `--megapixels` make it smaller. `--input ocr` reads the batch by OCR.
"""

import argparse
import io
import itertools
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from llm_backend.errors import InputError
from llm_backend.reading.ocr import read_text
from llm_backend.reading.pictures import Limits, prepare_pictures
from testkit.canary import Asked, Page, running
from testkit.pictures import encoded, photograph
from testkit.receipts import Receipt, make_receipts
from testkit.servers import ROOT, Server, backend, stub_llm

_LIMITS = Limits(max_side=2048, max_pages=1, max_pixels=50_000_000)


def run(receipts: int = 200, pictures: int = 500, megapixels: int = 12, image_input: str = "vision") -> None:
    """Prints how many totals OCR finds, and the batch's seconds and peak memory."""
    if receipts:
        _read_receipts(receipts)
    if pictures:
        _run_batch(pictures, megapixels, image_input)


def _read_receipts(number: int) -> None:
    receipts = make_receipts(number)
    started = time.monotonic()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(_total_is_found, receipts))
    seconds = time.monotonic() - started
    turned = [hit for hit, receipt in zip(found, receipts, strict=True) if receipt.orientation != 1]
    print(
        f"OCR of receipts         {sum(found):7d} of {number} totals found ({sum(found) / number:.1%}), "
        f"{sum(turned)} of {len(turned)} turned by EXIF, {seconds / number:.2f} s each"
    )


def _total_is_found(receipt: Receipt) -> bool:
    try:
        text = read_text(prepare_pictures(io.BytesIO(receipt.file), _LIMITS), ["eng"])
    except InputError:
        return False
    return receipt.total in text


def _run_batch(number: int, megapixels: int, image_input: str) -> None:
    """Runs one batch. Each task names a picture of its own; half of them are JPEG, half are PNG."""
    photo = photograph(megapixels)
    files = [
        ("image/jpeg", encoded(photo, "JPEG", quality=90)),
        ("image/png", encoded(photo, "PNG", compress_level=1)),
    ]
    config = (ROOT / "examples/document-images/label_config.xml").read_text()

    def answer(asked: Asked) -> Page:
        kind, file = files[int(asked.path.strip("/")) % 2]
        return Page(file, kind)

    with (
        running() as files_server,
        stub_llm() as stub_url,
        backend(
            stub_url,
            ALLOWED_HOSTS="127.0.0.1",
            IMAGE_INPUT=image_input,
            DEFAULT_PROMPT="What is it?",
            PREDICT_TIMEOUT="3600",
        ) as server,
    ):
        files_server.answer = answer
        tasks = [{"id": index, "data": {"image": f"{files_server.url}/{index}"}} for index in range(number)]
        body = {"tasks": tasks, "project": "1.1795440473", "label_config": config, "params": {}}
        idle = server.worker_megabytes()
        started = time.monotonic()
        with _watching(server) as peak:
            results = server.post("/predict", body)["results"]
        seconds = time.monotonic() - started
    predicted = sum(map(bool, results))
    sizes = " and ".join(f"{len(file) / 1e6:.0f} MB {kind[6:].upper()}" for kind, file in files)
    print(
        f"batch of pictures       {predicted:7d} of {number} predicted ({megapixels} megapixels, {sizes}, "
        f"{image_input}) in {seconds:.0f} s; worker {idle:.0f} MB before, {max(peak):.0f} MB at its peak"
    )


@contextmanager
def _watching(server: Server) -> Iterator[list[float]]:
    """Samples the worker's memory every 0.1 s, in megabytes. The last sample is the kernel's maximum."""
    seen: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        for _ in itertools.takewhile(lambda _: not stop.wait(0.1), itertools.count()):
            seen.append(server.worker_megabytes())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
        seen.append(_high_water(server.worker_pid))


def _high_water(pid: int) -> float:
    """The largest resident memory that the kernel has seen of the process, in megabytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Receipts by OCR, and a batch of large pictures.")
    parser.add_argument("--receipts", type=int, default=200)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--megapixels", type=int, default=12)
    parser.add_argument("--input", choices=["vision", "ocr"], default="vision")
    given = parser.parse_args()
    run(given.receipts, given.pictures, given.megapixels, given.input)
