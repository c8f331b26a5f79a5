"""The tables of settings and metrics are equal to the code."""

from pathlib import Path

from pydantic import SecretStr

from llm_backend.settings import ExtraParams, Settings
from tests.test_metrics import metrics_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def settings_table() -> list[str]:
    """One row for each setting: its variable, its default, its description."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, bool):
            default = int(default)
        if isinstance(default, tuple):
            default = ",".join(default)
        shown = "" if default in (None, "") or isinstance(default, SecretStr) else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return rows


def test_every_setting_is_in_the_table_with_its_default() -> None:
    """Rows of the README, in the order of the code; `python -m tests.test_documentation` prints them."""
    rows = [line for line in README.splitlines() if line.startswith("| `") and line.count("|") == 4]
    assert rows == settings_table()


def test_every_metric_is_in_the_table() -> None:
    """Rows of docs/operations.md, as `/metrics` has them; they are printed, too."""
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `llm_backend_")]
    assert rows == metrics_table()


def test_every_extra_param_is_named() -> None:
    """Whoever reads the README knows what the model page takes."""
    assert [name for name in ExtraParams.model_fields if f"`{name}`" not in README] == []


if __name__ == "__main__":
    print("\n".join([*settings_table(), "", *metrics_table()]))  # noqa: T201 - for whoever updates them
