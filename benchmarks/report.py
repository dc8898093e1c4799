"""The tables of a run's results."""

from __future__ import annotations

from typing import Any

from benchmarks.engines import RECIPE
from benchmarks.figures import median, ratio
from benchmarks.stages import STAGES
from benchmarks.table import draw, number

Results = dict[str, Any]


def tables(results: Results) -> list[str]:
    """A table for each part that was run."""
    makers = {
        "http": _throughput,
        "forward": _forward,
        "starting": _starting,
        "stages": _stages,
        "agreement": _agreement,
    }
    return [table for part, make in makers.items() if part in results for table in make(results)]


def _throughput(results: Results) -> list[str]:
    http = results["http"]
    engines, counts = http["engines"], list(next(iter(http["engines"].values())))
    base = engines.get(RECIPE)
    rates, waits = [], []
    for name, by_count in engines.items():
        seen = [by_count[count] for count in counts]
        cells = [number(each["requests_per_second"]) for each in seen]
        if base:
            pairs = zip(seen, (base[count] for count in counts), strict=True)
            cells += [f"{ratio(a['rounds'], b['rounds']):.1f}x" for a, b in pairs]
        padding = seen[-1].get("padding")
        rates.append([name, *cells, "" if padding is None else f"{padding:.1%}"])
        cells = [f"{number(s['ms']['p50'])} / {number(s['ms']['p99'])}" for s in seen]
        waits.append([name, *cells])
    connections = [f"{count} conn." for count in counts]
    against = [f"{count} / recipe" for count in counts] if base else []
    limits = "  ".join(f"{name} {number(rate)}" for name, rate in http["limits"].items())
    return [
        draw("HTTP requests per second", [*connections, *against, "padding"], rates),
        draw("HTTP latency, ms: p50 / p99", connections, waits),
        f"\nlimit of matrix products, GFLOP/s: {limits}",
    ]


def _forward(results: Results) -> list[str]:
    shapes = results["forward"]
    names = list(next(iter(shapes.values())))
    rows = [[n, *(number(median(took[n])) for took in shapes.values())] for n in names]
    tables = [draw("One forward, ms at batch x length", list(shapes), rows)]
    rows = [
        [f"{one} / {other}", *(f"{ratio(t[one], t[other]):.2f}" for t in shapes.values())]
        for one, other in EQUALS
        if {one, other} <= set(names)
    ]
    return [*tables, draw("Ratios within rounds, medians", list(shapes), rows)]


#: Engines of `forward.py` that compute in the same precision, ours first.
EQUALS = (
    ("packed", "OpenVINO"),
    ("packed", "ONNX Runtime"),
    ("packed bfloat16", "OpenVINO bfloat16"),
    ("packed int8", "OpenVINO int8"),
    ("packed", "eager"),
)


def _starting(results: Results) -> list[str]:
    rows = []
    for name, seen in results["starting"].items():
        worst, chance = (
            max(seen["first_over_later"].values()),
            max(seen["second_over_later"].values()),
        )
        rows.append(
            [
                name,
                f"{seen['first_answer_s']:.1f}",
                *(number(seen[key]) for key in ("worker_mb", "weights_mb", "two_workers_mb")),
                f"{median(seen['first_over_later'].values()):.2f}",
                f"{worst:.2f} ({chance:.2f})",
            ]
        )
    columns = ["first answer, s", "worker, MB", "weights, MB", "two workers, MB"]
    title = "A start; of each shape, its first request over its later median (the second over it)"
    return [draw(title, [*columns, "shapes' median", "largest"], rows)]


def _stages(results: Results) -> list[str]:
    rows = [
        [f"{name}, {count} conn.", *(number(seen[stage]) for stage in (*STAGES, "total", "added"))]
        for name, by_count in results["stages"].items()
        for count, seen in by_count.items()
    ]
    title = "Where a request's time goes, ms (added: total without forward)"
    return [draw(title, [*STAGES, "total", "added"], rows)]


def _agreement(results: Results) -> list[str]:
    seen = results["agreement"]
    count = next(iter(seen.values()))["sentences"]
    rows = [
        [name, f"{each['accuracy']:.2%}", f"{each['agreement']:.2%}"] for name, each in seen.items()
    ]
    title = f"The demo model on {count} held-out sentences"
    return [draw(title, ["accuracy", "same label as float32"], rows)]
