"""What was promised, beside what was seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.engines import RECIPE
from benchmarks.figures import ratio
from benchmarks.model import operations
from benchmarks.table import draw, number
from benchmarks.texts import count_tokens, load_texts

FASTER = {"float32": (8, 4), "bfloat16": (15, 8), "int8": (25, 12)}
FORWARD = {
    ("packed", "OpenVINO"): 1.0,
    ("packed", "ONNX Runtime"): 1.0,
    ("packed bfloat16", "OpenVINO bfloat16"): 1.05,
    ("packed int8", "OpenVINO int8"): 1.1,
}
BUSY = {"float32": 0.8, "int8": 0.55}
PADDING = 0.05
ADDED_MS = 4.0
FIRST_ANSWER_S = 8.0
BEYOND_WEIGHTS_MB = 400.0
TWO_WORKERS = 1.3
FIRST_REQUEST = 1.5
AGREEMENT, ACCURACY = 0.995, 0.005
MOST, LEAST = "16", "1"


@dataclass(frozen=True)
class Bound:
    """A figure and its bound: at least as large, or at most."""

    name: str
    figure: float
    limit: float
    at_least: bool

    @property
    def holds(self) -> bool:
        """Whether it is kept."""
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit


def bounds(results: dict[str, Any]) -> list[Bound]:
    """All that the results have figures for."""
    makers = {
        "http": _http,
        "forward": _forward,
        "starting": _starting,
        "stages": _stages,
        "agreement": _agreement,
    }
    return [each for part, make in makers.items() if part in results for each in make(results)]


def as_dicts(found: list[Bound]) -> list[dict[str, Any]]:
    """For the results' file."""
    return [{**asdict(each), "holds": each.holds} for each in found]


def show(found: list[Bound]) -> str:
    """As a table."""
    rows = [
        [
            each.name,
            number(each.figure),
            f"{'>=' if each.at_least else '<='} {number(each.limit)}",
            "holds" if each.holds else "MISSED",
        ]
        for each in found
    ]
    return draw("Bounds", ["seen", "bound", ""], rows)


def _http(results: dict[str, Any]) -> Iterator[Bound]:
    engines, limits = results["http"]["engines"], results["http"]["limits"]
    recipe = engines.get(RECIPE)
    for name, (rate, wait) in FASTER.items():
        if recipe and name in engines:
            most = ratio(engines[name][MOST]["rounds"], recipe[MOST]["rounds"])
            yield Bound(
                f"{name}: requests/s at {MOST} connections over the recipe", most, rate, True
            )
            p50 = ratio(recipe[LEAST]["rounds_p50"], engines[name][LEAST]["rounds_p50"])
            yield Bound(f"{name}: latency at 1 connection, times lower", p50, wait, True)
    for name, part in BUSY.items():
        if name in engines and name in limits:
            seen = engines[name][MOST]
            busy = products_per_second(seen, results["layers"]) / 1e9 / limits[name]
            yield Bound(f"{name}: share of the limit of products at {MOST}", busy, part, True)
    for name in FASTER:
        if "padding" in engines.get(name, {}).get(MOST, {}):
            padding = engines[name][MOST]["padding"]
            yield Bound(f"{name}: padding at {MOST}", padding, PADDING, False)


def products_per_second(seen: dict[str, Any], layers: int) -> float:
    """Operations per second of an engine: tokens computed, padding included, times each's."""
    lengths = count_tokens(load_texts())
    tokens = seen["requests_per_second"] * sum(lengths) / len(lengths)
    # Attention is counted for the length that an average token sees.
    length = sum(n * n for n in lengths) / sum(lengths)
    return operations(tokens / (1 - seen.get("padding", 0.0)), length, layers)


def _forward(results: dict[str, Any]) -> Iterator[Bound]:
    for (one, other), most in FORWARD.items():
        for shape, took in results["forward"].items():
            if one in took and other in took:
                found = ratio(took[one], took[other])
                yield Bound(f"forward {shape}: {one} / {other}", found, most, False)


def _starting(results: dict[str, Any]) -> Iterator[Bound]:
    for name, seen in results["starting"].items():
        yield Bound(f"{name}: first answer, s", seen["first_answer_s"], FIRST_ANSWER_S, False)
        beyond = seen["worker_mb"] - seen["weights_mb"]
        yield Bound(f"{name}: worker's MB beyond the weights", beyond, BEYOND_WEIGHTS_MB, False)
        two = seen["two_workers_mb"] / seen["worker_mb"]
        yield Bound(f"{name}: two workers' memory over one's", two, TWO_WORKERS, False)
        worst = max(seen["first_over_later"].values())
        yield Bound(f"{name}: a shape's first request over later", worst, FIRST_REQUEST, False)


def _stages(results: dict[str, Any]) -> Iterator[Bound]:
    for name, seen in results["stages"].items():
        yield Bound(f"{name}: ms beside the forward", seen[LEAST]["added"], ADDED_MS, False)


def _agreement(results: dict[str, Any]) -> Iterator[Bound]:
    seen = results["agreement"]
    for name in (each for each in FASTER if each in seen and each != "float32"):
        yield Bound(f"{name}: labels as float32", seen[name]["agreement"], AGREEMENT, True)
        lost = seen["float32"]["accuracy"] - seen[name]["accuracy"]
        yield Bound(f"{name}: accuracy lost", abs(lost), ACCURACY, False)
