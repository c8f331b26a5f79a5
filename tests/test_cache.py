"""The cache on disk: what is kept, for how long, and how much."""

import os
import threading
import time
from pathlib import Path

import pytest

from llm_backend.reading.cache import DiskCache


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    """Also by another process with the same folder."""
    made: list[str] = []
    text = "é\r\n\n \x00"

    def make() -> str:
        made.append(text)
        return text

    for _ in range(2):
        cache = DiskCache(tmp_path, max_bytes=1000)
        assert [cache.get(["a"], make), cache.get(["a"], make)] == [text, text]
    assert len(made) == 1


def test_who_asks_while_it_is_made_waits_for_it(tmp_path: Path) -> None:
    """The same thing is made by one thread, other things go on."""
    cache = DiskCache(tmp_path, max_bytes=1000)
    going, made = threading.Event(), []

    def make() -> str:
        made.append(1)
        assert going.wait(10)
        return "x"

    threads = [threading.Thread(target=cache.get, args=("slow", make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert cache.get("other", lambda: "y") == "y"
    going.set()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_an_error_is_not_kept(tmp_path: Path) -> None:
    """The next one tries again."""
    cache = DiskCache(tmp_path, max_bytes=1000)
    with pytest.raises(ZeroDivisionError):
        cache.get("a", lambda: str(1 / 0))
    assert cache.get("a", lambda: "now") == "now"


def test_it_stays_within_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first."""
    monkeypatch.setattr("llm_backend.reading.cache._SECONDS_BETWEEN_SWEEPS", 0.0)
    cache = DiskCache(tmp_path, max_bytes=1000)
    for number in range(20):
        cache.get(number, lambda: "x" * 100)
        for age, file in enumerate(sorted(tmp_path.iterdir(), key=lambda path: -path.stat().st_mtime)):
            os.utime(file, (time.time() - age, time.time() - age))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 1000
    assert cache.get(19, lambda: "made again") == "x" * 100
    assert cache.get(0, lambda: "made again") == "made again"


def test_what_is_old_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not given."""
    monkeypatch.setattr("llm_backend.reading.cache._SECONDS_BETWEEN_SWEEPS", 0.0)
    cache = DiskCache(tmp_path, max_bytes=1000, seconds_kept=60)
    cache.get("a", lambda: "old")
    [file] = tmp_path.iterdir()
    os.utime(file, (time.time() - 61, time.time() - 61))
    cache.get("b", lambda: "new")
    assert not file.exists()
    assert cache.get("a", lambda: "new") == "new"


def test_a_disk_that_cannot_be_written_only_makes_it_slower(tmp_path: Path) -> None:
    """The text is made all the same."""
    (tmp_path / "file").write_text("")
    cache = DiskCache(tmp_path / "file" / "folder", max_bytes=1000)
    assert [cache.get("a", lambda: "x"), cache.get("a", lambda: "y")] == ["x", "y"]


def test_only_this_user_may_read_it(tmp_path: Path) -> None:
    """Pictures of tasks can be private."""
    DiskCache(tmp_path / "pictures", max_bytes=1000).get("a", lambda: "x")
    [file] = (tmp_path / "pictures").iterdir()
    assert (tmp_path / "pictures").stat().st_mode & 0o77 == 0
    assert file.stat().st_mode & 0o77 == 0
