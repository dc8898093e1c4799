"""The page that the sweep writes, and what must be true of the one in docs/."""

from __future__ import annotations

import transformers

from architectures.check import Row
from architectures.overrides import OVERRIDES
from architectures.scope import OUT_OF_SCOPE
from architectures.sweep import jobs
from architectures.table import markdown, share
from tests.architectures.helpers import PAGE, documented
from torchscript_bundle.export.hints import HINTS, REFUSED

ROWS = [
    Row("fill_mask", "bert", "exact", "any", "any"),
    Row("fill_mask", "funnel", "exact", "any", "traced", "pads"),
    Row("fill_mask", "mra", "refused", note="a kernel | of its own"),
    Row("fill_mask", "tapas", "out of scope", note="tables"),
]


def test_what_is_out_of_scope_counts_neither_way() -> None:
    assert share(ROWS) == 2 / 3


def test_page_has_counts_and_every_row() -> None:
    page = markdown(ROWS, 12.3)
    assert f"transformers {transformers.__version__}" in page and "in 12 s" in page
    assert "| fill_mask | 4 | 1 | 1 | 1 | 0 | 1 | 66.7% |" in page
    assert "| all | 4 | 1 | 1 | 1 | 0 | 1 | 66.7% |" in page
    assert "| funnel | exact | any | traced | pads |" in page
    assert "| mra | refused |  |  | a kernel \\| of its own |" in page


def test_docs_have_every_entry_of_the_installed_transformers() -> None:
    assert set(documented()) == set(jobs())
    assert f"transformers {transformers.__version__}," in PAGE.read_text(encoding="utf-8")


def test_docs_show_no_crash() -> None:
    assert {status for status, _, _ in documented().values()} == {
        "exact",
        "refused",
        "out of scope",
    }


def test_at_least_97_of_100_are_exported() -> None:
    states = [status for status, _, _ in documented().values() if status != "out of scope"]
    assert states.count("exact") / len(states) >= 0.97


def test_nothing_is_said_of_architectures_that_are_not_there() -> None:
    kinds = {kind for _, kind in jobs()}
    assert set(OUT_OF_SCOPE) <= kinds
    assert set(OVERRIDES) <= kinds
    assert set(REFUSED) <= kinds
    inner = {f"{kind}_text" for kind in kinds}
    assert {kind.replace("-", "_") for kind in HINTS} <= kinds | inner
