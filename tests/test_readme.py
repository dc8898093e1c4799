"""The documents keep their promises: keys, targets, links, paths and pictures are real."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from torchscript_bundle.export.config import SetupConfig, load_config
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.server import ROOT

DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ROOT / "demo" / "README.md",
    ROOT / "torchscript_bundle" / "jit" / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]
#: Folders that paths of the documents start from.
ROOTS = (ROOT, ROOT / "torchscript_bundle", ROOT / "torchscript_bundle" / "jit")


def test_every_config_key_is_explained() -> None:
    table = (DOCS / "configuration.md").read_text(encoding="utf-8")
    keys = [name for name in SetupConfig.model_fields if name != "schema_"]
    assert [key for key in keys if f"`{key}`" not in table] == []


def test_every_target_that_the_documents_name_exists() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"make (\w+)", listed))
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`make (?:-\w )?(\w+)|^make (?:-\w )?(\w+)", text, re.MULTILINE))
    assert {first or second for first, second in named} <= targets


def test_each_mode_has_a_config_and_a_request() -> None:
    page = (DOCS / "modes.md").read_text(encoding="utf-8")
    requests = dict(re.findall(r"^\| `(\w+)`[^|]* \| `([^`]+)`", page, re.MULTILINE))
    served = dict(re.findall(r"^\| `(\w+)\.json` \| `/predictions/(\w+)`", page, re.MULTILINE))
    assert list(requests) == list(served) != []
    assert set(requests) == set(MODES)
    for mode, request in requests.items():
        json.loads(request)
        config = load_config(ROOT / "examples" / "modes" / f"{mode}.json")
        assert (config.mode, config.served_name) == (mode, served[mode])
        assert config.artifacts.is_dir()


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]*)(?:#([^):]+))?\)", page.read_text(encoding="utf-8"))
    for link, anchor in links:
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), (link, anchor)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_of_code_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.py)`", text))
    named |= set(re.findall(r"`((?:serving|export|jit|tests|torchscript_bundle)/[\w./-]*/)`", text))
    assert [path for path in named if not any((root / path).exists() for root in ROOTS)] == []


def test_names_of_the_walks_exist() -> None:
    """Those that CONTRIBUTING.md names with their file: `NAME` ... in `path`."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("\n   ", " ")
    named = re.findall(r"`(\w+)` in `(torchscript_bundle/\S+\.py)`", text)
    assert len(named) > 6
    for name, path in named:
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text(encoding="utf-8")), (name, path)


def test_the_table_of_contents_has_every_page() -> None:
    contents = (DOCS / "README.md").read_text(encoding="utf-8")
    names = [page.name for page in DOCS.glob("*.md") if page.name != "README.md"]
    assert [name for name in names if f"]({name})" not in contents] == []


def test_the_layout_exists() -> None:
    """The tree in docs/development.md: a name is in the folder above it that is indented less."""
    tree = (DOCS / "development.md").read_text(encoding="utf-8").split("```")[1]
    folders: dict[int, Path] = {0: ROOT}
    for indent, names in re.findall(r"^((?:  ){0,3})(\S+(?:  \S+/)*)", tree, re.MULTILINE):
        for name in names.split():
            path = folders[len(indent)] / name
            assert path.exists(), path
        folders[len(indent) + 2] = path


def test_the_picture_is_drawn_from_its_source_and_shows_what_exists() -> None:
    command = [sys.executable, str(DOCS / "draw.py")]
    drawn = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert drawn == (DOCS / "architecture.svg").read_text(encoding="utf-8")
    lanes = tomllib.loads((DOCS / "architecture.toml").read_text(encoding="utf-8"))["lanes"]
    titles = [title for lane in lanes for row in lane["rows"] for _, title, *_ in row]
    paths = [title for title in titles if title.endswith(("/", ".py"))]
    assert len(paths) > 10
    package = ROOT / "torchscript_bundle"
    for path in paths:
        assert (package / path).exists() or (package / "serving" / path).exists(), path


def test_line_counts_of_the_mode_that_is_walked_through_are_true() -> None:
    page = (ROOT / "docs" / "adding-a-mode.md").read_text(encoding="utf-8")
    counts = re.findall(r"\| \[(\S+\.py)\]\(\S+\) \| (\d+) \|", page)
    assert len(counts) == 2
    for path, count in counts:
        assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) == int(count), path
    for side, line in (
        ("export", '"reranking": Reranking(),'),
        ("serving", '"reranking": Reranking,'),
    ):
        registry = ROOT / "torchscript_bundle" / side / "modes" / "__init__.py"
        assert line in page and line in registry.read_text(encoding="utf-8")
