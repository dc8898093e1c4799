"""The README keeps its promises: keys, targets and links are real."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from torchscript_bundle.export.config import SetupConfig, load_config
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.server import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "demo" / "README.md",
    ROOT / "torchscript_bundle" / "jit" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def test_every_config_key_is_explained() -> None:
    table = README.split("## setup_config.json")[1].split("\n## ")[0]
    keys = [name for name in SetupConfig.model_fields if name != "schema_"]
    assert [key for key in keys if f"`{key}`" not in table] == []


def test_every_target_that_the_documents_name_exists() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = set(re.findall(r"make (\w+)", listed))
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"`make (?:-\w )?(\w+)|^make (?:-\w )?(\w+)", text, re.MULTILINE))
    assert {first or second for first, second in named} <= targets


def test_each_mode_has_a_config_and_a_request() -> None:
    section = README.split("## Modes")[1].split("\n## ")[0]
    requests = dict(re.findall(r"^\| `(\w+)`[^|]* \| `([^`]+)`", section, re.MULTILINE))
    served = dict(re.findall(r"^\| `(\w+)\.json` \| `/predictions/(\w+)`", section, re.MULTILINE))
    assert list(requests) == list(served) != []
    assert set(requests) == set(MODES)
    for mode, request in requests.items():
        json.loads(request)
        config = load_config(ROOT / "examples" / "modes" / f"{mode}.json")
        assert (config.mode, config.served_name) == (mode, served[mode])
        assert config.artifacts.is_dir()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


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
