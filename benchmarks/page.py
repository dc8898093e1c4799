"""A run's results as a page of the documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import bounds, report

PLOTS = {
    "throughput": "Requests per second of each server by connections",
    "latency": "Percentiles of latency of each server, for 1, 4 and 16 connections",
    "forward": "Milliseconds of one forward pass of each engine by length",
}


def write_page(results: dict[str, Any], path: Path) -> None:
    """Writes the page; the plots are beside it."""
    path.write_text(compose(results), encoding="utf-8")


def compose(results: dict[str, Any]) -> str:
    """The page: machine and versions, plots, tables."""
    versions = {**results["versions"], **results["versions_of_others"]}
    lines = [
        "# Measured",
        "",
        f"By `make bench` ([how](benchmarks.md)) on {results['date']}: {results['processor']}, "
        f"{results['cores']} cores ({', '.join(results['flags'])}), {results['memory_gb']} GB, "
        f"Python {results['python']}, {results['wrk']}, "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + ".",
        *(f"\n![{words}](bench-{name}.svg)" for name, words in PLOTS.items()),
        "\n```",
        "\n".join([*report.tables(results), bounds.show(bounds.bounds(results))]).strip(),
        "```",
    ]
    return "\n".join(lines) + "\n"
