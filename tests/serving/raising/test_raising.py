"""A computation that raises gives an exception, in every way of running; none ends the process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.generation.helpers import Written
from tests.serving.raising.__main__ import Plan
from tests.serving.raising.ways import WAYS
from tests.tally import Tally

Artifact = Callable[[str], Path]
ROOT = Path(__file__).parents[3]

#: BERT, a trace behind a dispatcher, GPT-2's way with padding, an encoder-decoder.
ARTIFACTS = ("bert", "fixed_length", "gpt2", "bart")
WRITERS = ("gpt2", "t5")


def raise_in_a_process(plan: Plan) -> dict[str, int]:
    """What came of a plan's computations; fails if the process did not live to say so."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.serving.raising", plan.dump()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode} after: {done.stderr[-2000:]}"
    counts: dict[str, int] = json.loads(done.stdout)
    return counts


def raised(counts: dict[str, int], way: str) -> int:
    """How many computations raised, in one way."""
    names = [name for name in counts if name.startswith(f"{way}: ")]
    return sum(counts[name] for name in names if name.endswith("Error"))


def test_error_is_an_exception(
    artifact: Artifact, written: Callable[[str], Written], tmp_path: Path
) -> None:
    plan = Plan(
        str(tmp_path),
        programs=4,
        artifacts=[str(artifact("bert"))],
        spoiled=12,
        writers=[str(written("gpt2").folder)],
        calls=12,
    )
    counts = raise_in_a_process(plan)
    for way in WAYS:
        assert raised(counts, way) >= 12, (way, counts)
    assert raised(counts, "writing") >= 10, counts


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_no_process_dies(way: str, artifact: Artifact, tmp_path: Path, tally: Tally) -> None:
    """Far more than a thousand in all ways together."""
    artifacts = [str(artifact(name)) for name in ARTIFACTS]
    plan = Plan(str(tmp_path), ways=[way], artifacts=artifacts, spoiled=40, seed=1)
    counts = raise_in_a_process(plan)
    tally("computations that raise", way, Counter(counts))
    assert raised(counts, way) >= 120, counts


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITERS)
def test_no_writing_process_dies(
    name: str, written: Callable[[str], Written], tmp_path: Path, tally: Tally
) -> None:
    plan = Plan(str(tmp_path), ways=[], writers=[str(written(name).folder)], calls=150, seed=1)
    counts = raise_in_a_process(plan)
    tally("computations that raise", f"writing, {name}", Counter(counts))
    assert raised(counts, "writing") >= 130, counts
