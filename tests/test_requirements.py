"""What is installed is pinned."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("file", sorted(file.name for file in ROOT.glob("requirements*.txt")))
def test_every_package_is_pinned_with_hashes(file: str) -> None:
    """pip refuses a file that is not the one which was tested."""
    joined = (ROOT / file).read_text().replace("\\\n", " ").splitlines()
    packages = [line for line in joined if line and not line.startswith("#")]
    assert packages
    assert [line for line in packages if "==" not in line or "--hash=sha256:" not in line] == []
