"""What counts as a changed decision, mode by mode."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.quality.decisions import Comparison, RowOutputs

Rows = list[list[list[float]]]


def item(*rows: tuple[Any, ...]) -> list[RowOutputs]:
    """Rows of lists of numbers; the first and the last token are special."""
    made = []
    for outputs in rows:
        tensors = tuple(torch.tensor(output, dtype=torch.float32) for output in outputs)
        special = torch.zeros(len(tensors[0]), dtype=torch.bool)
        special[0] = special[-1] = True
        made.append(RowOutputs(tensors, special))
    return made


def compare(
    mode: str, expected: list[RowOutputs], actual: list[RowOutputs], **options: Any
) -> Comparison:
    return MODES[mode].compare(expected, actual, options)


def kept(comparison: Comparison) -> tuple[int, int]:
    return comparison.kept, comparison.decisions


@pytest.mark.parametrize(
    ("problem", "before", "after", "decided", "change"),
    [
        ("single_label_classification", [0.0, 1.0], [0.5, 1.0], (1, 1), 0.109),
        ("single_label_classification", [0.0, 0.1], [0.1, 0.0], (0, 1), 0.050),
        ("multi_label_classification", [1.0, -1.0], [2.0, -1.0], (1, 1), 0.150),
        ("multi_label_classification", [1.0, -1.0], [1.0, 1.0], (0, 1), 0.462),
        ("regression", [4.0], [4.2], (0, 0), 0.05),
        ("regression", [0.1], [0.2], (0, 0), 0.1),
    ],
)
def test_texts(
    problem: str, before: list[float], after: list[float], decided: tuple[int, int], change: float
) -> None:
    found = compare(
        "sequence_classification", item((before,)), item((after,)), problem_type=problem
    )
    assert kept(found) == decided
    assert found.changes == pytest.approx((change,), abs=1e-3)


def test_tokens_of_all_windows_but_not_those_the_tokenizer_adds() -> None:
    first, second = [[9, 0], [0, 1], [1, 0], [0, 9]], [[9, 0], [3, 0], [9, 0]]
    expected = item((first,), (second,))
    assert kept(compare("token_classification", expected, expected)) == (3, 3)
    first[0], first[3], first[1] = [0, 9], [9, 0], [1, 0]
    assert kept(compare("token_classification", expected, item((first,), (second,)))) == (2, 3)


def test_masks() -> None:
    before, after = [[3, 0, 0], [0, 2, 0]], [[3, 0, 0], [0, 2, 2.5]]
    assert kept(compare("fill_mask", item((before,)), item((after,)))) == (1, 2)


def test_pairs_of_passages() -> None:
    before, after = ([3],), ([2],)
    expected = item(before, after, ([1],))
    assert kept(compare("reranking", expected, expected)) == (3, 3)
    assert kept(compare("reranking", expected, item(after, before, ([1],)))) == (2, 3)
    assert kept(compare("reranking", item(before), item(before))) == (0, 0)


def test_candidate_labels_and_a_single_one() -> None:
    facts = {"entailment": 2, "contradiction": 0}
    yes, no = ([0, 9, 5],), ([5, 0, 2],)
    assert kept(compare("zero_shot_classification", item(yes, no), item(yes, no), **facts)) == (
        1,
        1,
    )
    assert kept(compare("zero_shot_classification", item(yes, no), item(no, yes), **facts))[0] == 0
    assert kept(compare("zero_shot_classification", item(yes), item(no), **facts)) == (0, 1)


def test_vectors() -> None:
    near, far = ([1, 0.01],), ([1, 0.5],)
    expected = item(([1, 0],))
    assert kept(compare("feature_extraction", expected, item(near))) == (1, 1)
    found = compare("feature_extraction", expected, item(far))
    assert kept(found) == (0, 1)
    assert found.changes == pytest.approx((1 - 1 / math.hypot(1, 0.5),), abs=1e-6)


def test_sparse_vectors_may_have_no_terms() -> None:
    some, none = item(([0, 1, 0],)), item(([0, 0, 0],))
    assert kept(compare("sparse_embedding", some, item(([0.1, 1, 0],)))) == (1, 1)
    assert kept(compare("sparse_embedding", none, none)) == (1, 1)
    assert compare("sparse_embedding", some, none) == Comparison(1, 0, (1.0,))


def test_answers_in_the_best_window_and_never_of_special_tokens() -> None:
    def spans(start: int, end: int, size: int = 6, sure: float = 6.0) -> tuple[Any, ...]:
        starts, ends = [9.0] + [0.0] * (size - 1), [0.0] * (size - 1) + [9.0]
        starts[start], ends[end] = sure, sure
        return starts, ends

    mode = "question_answering"
    expected = item(spans(1, 2), spans(2, 4, size=8, sure=8.0))
    assert kept(compare(mode, expected, item(spans(2, 3), spans(2, 4, 8, 7.0)))) == (1, 1)
    assert kept(compare(mode, expected, item(spans(1, 2), spans(2, 5, 8, 8.0)))) == (0, 1)
    assert kept(compare(mode, expected, item(spans(1, 2, sure=9.0), spans(2, 4, 8, 1)))) == (0, 1)
