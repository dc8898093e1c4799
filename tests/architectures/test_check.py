"""One architecture of each kind of trouble, by the code behind the table; all with --slow."""

from __future__ import annotations

import pytest

from architectures.check import check
from architectures.sweep import jobs
from tests.architectures.helpers import documented

# Models warn of what they are; the table says what became of them.
pytestmark = pytest.mark.filterwarnings("ignore")

SEQUENCE, CAUSAL = "sequence_classification", "text_generation"

#: Head, architecture, what it is an example of.
TROUBLES = [
    (SEQUENCE, "bert", "none"),
    (SEQUENCE, "bart", "wants as many ends of sentence in every row"),
    (SEQUENCE, "fnet", "has no mask"),
    (SEQUENCE, "longformer", "cuts windows by Python numbers"),
    (SEQUENCE, "jetmoe", "routes by numbers from .tolist()"),
    (SEQUENCE, "xmod", "speaks one language at a time"),
    (SEQUENCE, "mra", "is a CUDA kernel"),
    (SEQUENCE, "gemma3", "makes masks with vmap"),
    ("token_classification", "funnel", "pools padding with tokens"),
    ("token_classification", "openai_privacy_filter", "loops over the experts that were chosen"),
    ("question_answering", "deberta-v2", "scripts functions of its own"),
    ("question_answering", "led", "pads inside to whole windows"),
    ("token_classification", "bros", "takes no text alone"),
    ("fill_mask", "reformer", "draws lots"),
    ("fill_mask", "convbert", "reads padding in spite of the mask"),
    (CAUSAL, "deepseek_v32", "chooses the smaller of a size and a number"),
    (CAUSAL, "mamba", "loops over tokens"),
    (CAUSAL, "mamba2", "pads to whole chunks"),
    (CAUSAL, "mixtral", "routes in one operator"),
    (CAUSAL, "recurrent_gemma", "answers wrongly at other lengths, as plainly traced"),
    (CAUSAL, "rwkv", "the same, and rescales its weights at the first call"),
    (CAUSAL, "blt", "cuts texts into patches by their surprise"),
]


#: That their hints make them exact is tried by tests/export/test_hints.py; two others are left.
HINTED = {
    *("jetmoe", "funnel", "openai_privacy_filter", "led", "reformer"),
    *("mamba2", "recurrent_gemma", "rwkv"),
}


@pytest.mark.parametrize(
    ("head", "kind", "why"),
    [
        pytest.param(*trouble, marks=pytest.mark.slow if trouble[1] in HINTED else ())
        for trouble in TROUBLES
    ],
    ids=lambda value: str(value),
)
def test_the_table_is_right_about_each_kind_of_trouble(head: str, kind: str, why: str) -> None:
    row = check(head, kind)
    assert (row.status, row.batch, row.length) == documented()[head, kind], row.note


@pytest.mark.slow
@pytest.mark.parametrize(("head", "kind"), jobs(), ids=lambda value: str(value))
def test_the_table_is_right(head: str, kind: str) -> None:
    row = check(head, kind)
    assert (row.status, row.batch, row.length) == documented()[head, kind], row.note
