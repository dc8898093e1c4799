"""What passes cost: fitted to what was timed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from torchscript_bundle.serving.engine.costs import MOST_CALL, CostModel, Sample

SHAPES = [(1, 16), (8, 16), (1, 128)]


def timed(call: float, token: float, pair: float) -> list[Sample]:
    """What would be measured of a machine of these costs, in seconds."""
    return [
        Sample(rows, length, call + rows * length * (token + pair * length))
        for rows, length in SHAPES
    ]


@pytest.mark.parametrize(
    ("call", "token", "pair"),
    [
        (0.011, 0.00099, 0.0),
        (0.004, 0.0003, 1e-6),
        (0.0, 0.001, 0.0),
        (0.0, 0.001, 1e-6),
        (0.005, 5e-6, 0.0),
    ],
)
def test_costs_are_found_again(call: float, token: float, pair: float) -> None:
    found = CostModel.fit(timed(call, token, pair))
    assert found.call == pytest.approx(call / token, abs=0.01)
    assert found.pair == pytest.approx(pair / token, abs=1e-6)


def test_noise_moves_costs_little() -> None:
    exact = timed(0.011, 0.001, 0.0)
    for at in range(3):
        noisy = [
            replace(s, seconds=s.seconds * (1.1 if i == at else 1)) for i, s in enumerate(exact)
        ]
        assert 4 < CostModel.fit(noisy).call < 20


@pytest.mark.parametrize(
    "seconds",
    [
        (0.5, 0.5, 0.5),
        (0.5, 0.5 + 1e-12, 0.5 + 1e-12),
        (0.5, 0.5 - 1e-12, 0.5 - 1e-12),
        (0.5, 0.48, 0.51),
        (0.52, 0.5, 0.48),
    ],
)
def test_where_all_passes_take_alike_tokens_cost_next_to_nothing(
    seconds: tuple[float, ...],
) -> None:
    """Whichever of them was a little faster."""
    samples = [Sample(*shape, took) for shape, took in zip(SHAPES, seconds, strict=True)]
    assert CostModel.fit(samples) == CostModel(MOST_CALL)


@pytest.mark.parametrize("disturbed", [10, 20, 200])
def test_worthless_measurements_give_the_default(disturbed: int) -> None:
    """Fewer tokens took much longer."""
    [first, *others] = timed(0.011, 0.001, 0.0)
    samples = [replace(first, seconds=first.seconds * disturbed), *others]
    assert CostModel.fit(samples) == CostModel()


def test_lengths_that_cannot_be_told_apart_show_no_pairs() -> None:
    samples = [Sample(rows, 64, 0.01 + rows * 0.064) for rows in (1, 2, 8)]
    found = CostModel.fit(samples)
    assert found.call == pytest.approx(10.0)
    assert found.pair == 0


def test_nothing_costs_less_than_nothing() -> None:
    without_call = CostModel.fit(timed(-0.001, 0.001, 0.0))
    assert without_call.call == 0
    assert 0 <= without_call.pair < 0.001
    without_pair = CostModel.fit(timed(0.001, 0.001, -1e-6))
    assert without_pair.pair == 0
    assert 0 <= without_pair.call < 4


def test_costs_grow_with_rows_and_length() -> None:
    assert CostModel(10.0, 0.01).of(2, 100) == 10 + 200 * 2
