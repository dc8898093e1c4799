"""Medians, ratios, tables and bounds of made-up rounds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bounds, page, report, stages, throughput
from benchmarks.client import Timed
from benchmarks.figures import percentile, ratio
from benchmarks.load.wrk import Load
from benchmarks.model import linear_weights, operations, weights_mb
from benchmarks.table import draw, number


def test_ratios_are_of_the_same_round() -> None:
    """A slow round is slow for both; ratios of medians would say 1.5."""
    assert ratio([10, 30, 200], [10, 20, 100]) == 1.5
    assert ratio([1, 100, 2], [2, 200, 4]) == 0.5
    with pytest.raises(ValueError, match="argument"):
        ratio([1, 2], [1])


def test_percentiles() -> None:
    assert percentile(range(100), 99) == 99
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0


def test_weights_of_bert_base() -> None:
    """12 layers of 7.1 M weights; 110 M in all, as its paper says."""
    assert linear_weights() == 84_934_656
    assert weights_mb("float32") == pytest.approx(438, abs=1)
    assert weights_mb("int8") == pytest.approx(438 - 3 * 84.93, abs=1)
    assert operations(1, 0) == 2 * linear_weights()


def test_a_table_is_aligned() -> None:
    lines = draw("Title", ["one", "two"], [["a", "1", "22"], ["longer", "333", "4"]]).splitlines()
    assert lines == ["", "Title", "        one  two", "a         1   22", "longer  333    4"]
    assert [number(value) for value in (1234.6, 12.345, 0.01234)] == ["1235", "12.3", "0.0123"]


def seen(rate: float, computed: float = 100) -> throughput.Seen:
    ms = {"mean": 1.0, "p50": 1000 / rate, "p90": 2.0, "p99": 3.0, "max": 4.0}
    return throughput.Seen(Load(int(rate * 2), 2.0, ms), computed, 3)


def http(**rates: float) -> dict[str, Any]:
    """Results of engines with the same rate at all connections."""
    engines = {
        name: {count: throughput.summarize([seen(rate)] * 3) for count in ("1", "4", "16")}
        for name, rate in rates.items()
    }
    return {"engines": engines, "limits": {"float32": 200.0, "bfloat16": 400.0, "int8": 850.0}}


def test_rounds_are_summarized() -> None:
    found = throughput.summarize([seen(10), seen(30), seen(20)])
    assert found["requests_per_second"] == 20
    assert found["rounds"] == [10, 30, 20]
    assert found["padding"] == 0.03
    uncounted = throughput.Seen(seen(10).load, None, None)
    assert "padding" not in throughput.summarize([uncounted])


def test_every_engine_is_first_once() -> None:
    engines = {"a": 1, "b": 2, "c": 3}
    orders = [[name for name, _ in throughput.rotated(engines, at)] for at in range(3)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"]]


def test_counters_are_summed_over_workers() -> None:
    text = """# HELP ComputedTokens Torchserve prometheus metric
ComputedTokens{model_name="a",hostname="x"} 120.0
ComputedTokens{model_name="b",hostname="x"} 30.0
PaddingTokens{model_name="a",hostname="x"} 6.0
Requests2XX{model_name="a"} 9.0
"""
    assert throughput.parse_counters(text) == {"ComputedTokens": 150.0, "PaddingTokens": 6.0}


def test_bounds_of_http() -> None:
    results = {"layers": 12, "http": http(**{"original recipe": 4, "float32": 40, "int8": 80})}
    found = {bound.name: bound for bound in bounds.bounds(results)}
    assert found["float32: requests/s at 16 connections over the recipe"].figure == 10
    assert found["float32: requests/s at 16 connections over the recipe"].holds
    assert not found["int8: requests/s at 16 connections over the recipe"].holds
    assert found["int8: latency at 1 connection, times lower"].figure == 20
    assert found["float32: padding at 16"].holds
    # 40 texts a second of 22 tokens, 3% padding, 170 M operations each, and some attention.
    busy = found["float32: share of the limit of products at 16"].figure
    assert busy == pytest.approx(40 * 22 / 0.97 * 0.171 / 200, rel=0.02)
    assert "bfloat16: latency at 1 connection, times lower" not in found
    assert "MISSED" in bounds.show(list(found.values()))


def test_bounds_of_forward() -> None:
    took = {"packed": [10.0, 11.0], "OpenVINO": [10.0, 10.0], "ONNX Runtime": [20.0, 20.0]}
    found = bounds.bounds({"layers": 12, "forward": {"1x16": took}})
    assert [(bound.figure, bound.holds) for bound in found] == [(1.05, False), (0.525, True)]


def test_stages_are_parts_of_the_whole() -> None:
    header = (
        "decode;dur=1, tokenize;dur=2, pad;dur=0.5, encode;dur=1.5, handler;dur=26, forward;dur=20"
    )
    found = stages.summarize([Timed(40.0, header)] * 3, queue=5.0)
    assert (found["worker"], found["HTTP"], found["added"]) == (1.0, 9.0, 20.0)
    assert sum(found[stage] for stage in stages.STAGES) == found["total"] == 40.0


def test_every_part_has_a_table() -> None:
    starting = {"first_answer_s": 7.0, "worker_mb": 800.0, "two_workers_mb": 900.0}
    ratios = {"first_over_later": {"1x16": 1.2}, "second_over_later": {"1x16": 1.1}}
    stage = dict.fromkeys((*stages.STAGES, "total", "added"), 1.0)
    results = {
        "layers": 12,
        "http": http(**{"original recipe": 4, "float32": 40}),
        "forward": {"1x16": {"packed": [10.0], "OpenVINO": [10.0]}},
        "starting": {"float32": {**starting, **ratios, "weights_mb": 438.0}},
        "stages": {"float32": {"1": stage, "16": stage}},
        "agreement": {
            "float32": {"sentences": 900, "accuracy": 0.95, "agreement": 1.0},
            "int8": {"sentences": 900, "accuracy": 0.94, "agreement": 0.99},
        },
    }
    text = "\n".join(report.tables(results))
    facts = {"date": "today", "processor": "P", "cores": 2, "flags": ["avx2"], "memory_gb": 8}
    made_with = {"python": "3.11", "wrk": "wrk 4", "versions": {"torch": "2"}}
    whole = {**facts, **made_with, "versions_of_others": {"openvino": "1"}, **results}
    assert all(line in page.compose(whole) for line in text.strip().splitlines())
    assert "10.0x" in text and "3.0%" in text and "99.00%" in text
    found = {bound.name: bound.holds for bound in bounds.bounds(results)}
    assert found["int8: labels as float32"] is False
    assert found["float32: two workers' memory over one's"] is True


def test_the_page_of_the_documents_is_that_of_the_last_run() -> None:
    """Nothing on docs/measured.md was written by hand."""
    root = Path(__file__).resolve().parents[2]
    shown = (root / "docs" / "measured.md").read_text(encoding="utf-8")
    runs = (root / "benchmarks" / "results").glob("*.json")
    assert shown in [page.compose(json.loads(run.read_text())) for run in runs]
