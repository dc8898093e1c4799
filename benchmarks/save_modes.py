"""The two save modes side by side: size, load time, memory and latency of a worker's process.

`python benchmarks/save_modes.py [FOLDER]` exports the model in FOLDER (the demo model by default)
both ways and runs each in processes of its own, in turn. Times are those that a process had a core:
what else runs on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

SAVE_MODES = ("torchscript", "pretrained")
ROUNDS = 3
CALLS = 20
#: Words of the texts that are timed; a word is about a token.
SIZES = (8, 32, 100)
WORD = "parcel"


def export_both(model: Path, folder: Path) -> None:
    """Exports the model into a folder for each save mode."""
    from torchscript_bundle.export.config import load_config
    from torchscript_bundle.export.exporter import export

    for name in SAVE_MODES:
        path = folder / f"{name}.json"
        settings = {"model_name": str(model), "mode": "sequence_classification", "save_mode": name}
        path.write_text(json.dumps(settings))
        bundle = export(load_config(path), folder / name)
        print(f"{name}: {sum(bundle.sizes.values()) / 1e6:.0f} MB, {bundle.verification['holds']}")


def serve(artifact: Path) -> dict[str, float]:
    """What a worker's process takes until it is ready, and then for each text."""
    started = time.process_time()
    import psutil
    import torch

    from torchscript_bundle.serving.api.http import HttpRequest
    from torchscript_bundle.serving.service import Service

    service = Service(artifact, torch.device("cpu"))
    found = {"ready (CPU s)": time.process_time() - started}
    for size in SIZES:
        request = HttpRequest({"body": " ".join([WORD] * size).encode()}, {"body": "text/plain"})
        times = []
        for _ in range(CALLS):
            before = time.process_time()
            [response] = service.answer([request])
            times.append(time.process_time() - before)
            assert response.status == 200
        found[f"{size} words (CPU ms)"] = 1e3 * statistics.median(times)
    memory = psutil.Process().memory_full_info()
    found["memory, RSS (MB)"] = memory.rss / 1e6
    found["of it private (MB)"] = memory.uss / 1e6
    return found


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Medians over rounds, each of one process for each save mode."""
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in SAVE_MODES}
    for _ in range(ROUNDS):
        for name in SAVE_MODES:
            command = [sys.executable, __file__, "--serve", str(folder / name)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            rounds[name].append(json.loads(done.stdout))
    return {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        for name, runs in rounds.items()
    }


def main() -> None:
    """Prints one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=ROOT / "demo" / "model")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        print(json.dumps(serve(arguments.serve)))
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    with tempfile.TemporaryDirectory() as temporary:
        export_both(arguments.model.resolve(), Path(temporary))
        results: dict[str, Any] = measure(Path(temporary))
    print(f"\n{'':20}" + "".join(f"{name:>14}" for name in SAVE_MODES))
    for key in results[SAVE_MODES[0]]:
        print(f"{key:20}" + "".join(f"{results[name][key]:14.1f}" for name in SAVE_MODES))


if __name__ == "__main__":
    main()
