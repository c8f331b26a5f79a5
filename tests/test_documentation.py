"""The README and docs/ say what the code does, and their links lead somewhere."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from pydantic import SecretStr

from llm_backend.settings import PROJECT_ROOT, ExtraParams, Settings
from llm_backend.storage.schema import METADATA
from tests.test_metrics import metrics_table

DOCS = PROJECT_ROOT / "docs"
PAGES = sorted([*PROJECT_ROOT.glob("*.md"), *DOCS.rglob("*.md")])
SETTINGS = (DOCS / "settings.md").read_text()
README = (PROJECT_ROOT / "README.md").read_text()

_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_MOST_LINES = 150


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


def headings(page: str) -> set[str]:
    """What a link can name after #: the headings outside code, as GitHub makes anchors of them."""
    without_code = re.sub(r"(?ms)^ {4}[^\n]*$|^```.*?^```", "", page)
    titles = re.findall(r"(?m)^#+ +(.+?) *$", without_code)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    """The links within the repository that lead to no file or to no heading."""
    dead = []
    for link in _LINK.findall(page.read_text()):
        path, _, heading = link.partition("#")
        target = page.parent / unquote(path) if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (heading and heading not in headings(target.read_text())):
            dead.append(link)
    return dead


def test_every_setting_is_in_the_table_with_its_default() -> None:
    """docs/settings.md has the rows of the code; `python -m tests.test_documentation` prints them."""
    assert re.findall(r"(?m)^\| `[A-Z_]+` \|.*$", SETTINGS) == settings_table()


def test_every_extra_param_is_in_the_table() -> None:
    """The table of docs/settings.md has them in the order of the code."""
    assert re.findall(r"(?m)^\| `([a-z_]+)` \|", SETTINGS) == list(ExtraParams.model_fields)


def test_extra_params_override_settings_that_exist() -> None:
    """Every setting that the table of extra params names is one."""
    overridden = re.findall(r"(?m)^\| `[a-z_]+` \| (.+?) \|", SETTINGS)
    named = {name for cell in overridden for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert named
    assert named <= {name.upper() for name in Settings.model_fields}


def test_every_metric_is_in_the_table() -> None:
    """The rows of docs/operations.md are those of `/metrics`; they are printed, too."""
    text = (DOCS / "operations.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| `llm_backend_")]
    assert rows == metrics_table()


@pytest.mark.parametrize("table", ["ledger", "proposals"])
def test_every_column_of_the_ledger_is_in_its_table(table: str) -> None:
    """The tables of docs/ledger.md have the columns of the database, in their order."""
    _, text = (DOCS / "ledger.md").read_text().split(f"leaves one row in `{table}`")
    rows = text.partition("|---|---|\n")[2].partition("\n\n")[0]
    named = [name for row in rows.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1])]
    assert named == [column.name for column in METADATA.tables[table].columns]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link within the repository leads to an existing file and, where it names one, to a heading."""
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    """The test above finds missing files and missing headings; what stands in code is no heading."""
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`: three\n\n    # four\n\n"
        "[a](#one-two-three) [b](#four) [c](page.md#one-two-three) [d](page.md#one) [e](x.md) [f](https://x.y/#z)\n"
    )
    assert dead_links(page) == ["#four", "page.md#one", "x.md"]


def test_every_page_can_be_reached() -> None:
    """Whoever starts at the README finds every page of docs/ by a link in it."""
    linked = {(PROJECT_ROOT / link.partition("#")[0]).resolve() for link in _LINK.findall(README)}
    assert set(PAGES) - linked == {PROJECT_ROOT / "README.md"}


def test_the_readme_is_for_newcomers() -> None:
    """It stays so short that it is read; the rest is in docs/."""
    assert len(README.splitlines()) <= _MOST_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_variables_in_the_documentation_exist(page: Path) -> None:
    """A line of `.env` that a page shows sets a variable that the server knows."""
    shown = re.findall(r"(?m)^ {4}([A-Z][A-Z_]+)=\S*$", page.read_text())
    assert set(shown) <= {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_modules_in_the_documentation_exist(page: Path) -> None:
    """A path or a `python -m` module that a page names in backticks is there."""
    folders = "|".join(folder.name for folder in PROJECT_ROOT.glob("[a-z]*") if folder.is_dir())
    named = re.findall(rf"`(?:python -m )?((?:{folders})[/.][\w./-]+)", page.read_text())
    paths = [PROJECT_ROOT / name for name in named]
    modules = [PROJECT_ROOT / f"{name.replace('.', '/')}.py" for name in named]
    assert [
        path for path, module in zip(paths, modules, strict=True) if not path.exists() | module.exists()
    ] == []


def test_targets_of_make_exist() -> None:
    """A `make` command that a page names is a target of the Makefile."""
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (PROJECT_ROOT / "Makefile").read_text()))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"(?m)(?:`|^ {4})make ([a-z0-9-]+)", page.read_text())
    }
    assert named
    assert named <= targets


if __name__ == "__main__":
    print("\n".join([*settings_table(), "", *metrics_table()]))  # noqa: T201 - for whoever updates them
