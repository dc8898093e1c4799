"""`python -m benchmarks.plots RESULTS.json FOLDER`: the plots of a run, as SVG."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "benchmarks",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
)
from matplotlib import pyplot  # noqa: E402

#: Colour-blind safe (Okabe and Ito), and each engine's own in all plots.
COLORS = {
    "float32": "#0072B2",
    "packed": "#0072B2",
    "bfloat16": "#009E73",
    "packed bfloat16": "#009E73",
    "int8": "#D55E00",
    "packed int8": "#D55E00",
    "original recipe": "#000000",
    "plain": "#000000",
    "LitServe, transformers": "#999999",
    "eager": "#999999",
    "TorchServe, no model": "#CC79A7",
    "ONNX Runtime": "#E69F00",
    "OpenVINO": "#56B4E9",
    "OpenVINO bfloat16": "#56B4E9",
    "OpenVINO int8": "#56B4E9",
}
OTHERS = "#F0E442"
#: What engines are called, where their own name says too little.
SHOWN = {
    "packed": "ours, float32",
    "packed bfloat16": "ours, bfloat16",
    "packed int8": "ours, int8",
    "plain": "ours, as saved",
    "eager": "transformers",
    "OpenVINO": "OpenVINO float32",
    "ONNX Runtime": "ONNX Runtime float32",
    "float32": "ours, float32",
    "bfloat16": "ours, bfloat16",
    "int8": "ours, int8",
}
PERCENTILES = ("p50", "p90", "p99")
#: Lines of ours are whole, those of others broken.
OURS = ("float32", "bfloat16", "int8", "packed", "packed bfloat16", "packed int8")


def style(name: str) -> dict[str, Any]:
    """How an engine's line looks."""
    dashes = {"OpenVINO bfloat16": "--", "OpenVINO int8": ":"}
    line = "-" if name in OURS else dashes.get(name, "-.")
    return {
        "color": COLORS.get(name, OTHERS),
        "linestyle": line,
        "marker": "o",
        "label": SHOWN.get(name, name),
    }


def throughput(results: dict[str, Any]) -> Any:
    """Requests per second by connections."""
    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name, seen in results["http"]["engines"].items():
        counts = [int(count) for count in seen]
        rates = [each["requests_per_second"] for each in seen.values()]
        axes.plot(counts, rates, **style(name))
        axes.annotate(
            f"{rates[-1]:.0f}", (counts[-1], rates[-1]), (6, -3), textcoords="offset points"
        )
    axes.set(xscale="log", yscale="log", xlabel="connections", ylabel="requests per second")
    _whole_numbers(axes, counts)
    figure.legend(loc="outside right center", frameon=False)
    return figure


def latency(results: dict[str, Any]) -> Any:
    """Percentiles of latency by connections, one panel for each number of them."""
    engines = results["http"]["engines"]
    counts = list(next(iter(engines.values())))
    figure, panels = pyplot.subplots(
        1, len(counts), figsize=(9.5, 4.2), sharey=True, layout="constrained", squeeze=False
    )
    for count, axes in zip(counts, panels[0], strict=True):
        for name, seen in engines.items():
            axes.plot(PERCENTILES, [seen[count]["ms"][each] for each in PERCENTILES], **style(name))
        axes.set(yscale="log", title=f"{count} connection{'s' if count != '1' else ''}")
        axes.yaxis.set_major_formatter("{x:g}")
    panels[0][0].set_ylabel("latency, ms")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def forward(results: dict[str, Any]) -> Any:
    """Milliseconds of one forward by length, one panel for each batch size."""
    shapes = {tuple(map(int, name.split("x"))): took for name, took in results["forward"].items()}
    batches = sorted({batch for batch, _ in shapes})
    figure, panels = pyplot.subplots(
        1, len(batches), figsize=(9.5, 4.2), layout="constrained", squeeze=False
    )
    for batch, axes in zip(batches, panels[0], strict=True):
        lengths = sorted(length for rows, length in shapes if rows == batch)
        for name in next(iter(shapes.values())):
            times = [statistics.median(shapes[batch, length][name]) for length in lengths]
            axes.plot(lengths, times, **style(name))
        axes.set(xscale="log", yscale="log", xlabel="tokens of each text", ylabel="ms")
        axes.set_title(f"{batch} text{'s' if batch > 1 else ''}")
        _whole_numbers(axes, lengths)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _whole_numbers(axes: Any, values: list[int]) -> None:
    """Marks the values themselves on a logarithmic axis, and plain numbers on the other."""
    axes.set_xticks(values, [str(value) for value in values])
    axes.xaxis.set_minor_formatter("")
    axes.yaxis.set_major_formatter("{x:g}")


def main() -> None:
    """Writes `bench-*.svg`."""
    results = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"throughput": ("http", throughput), "latency": ("http", latency)}
    for name, (part, draw) in {**plots, "forward": ("forward", forward)}.items():
        if part in results:
            path = folder / f"bench-{name}.svg"
            draw(results).savefig(path, metadata={"Date": None})
            print(path)


if __name__ == "__main__":
    main()
