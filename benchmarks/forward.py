"""One forward pass of a BERT-base-sized model: this bundle, transformers, OpenVINO, ONNX Runtime.

Random weights, 110 million of them. All engines run in this process, in interleaved rounds, so that
a busy machine slows each alike; medians over rounds are printed, with the median ratio to OpenVINO.
`python benchmarks/forward.py --help`; what it needs is in benchmarks/requirements.lock.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

Inputs = tuple[Any, ...]
Engine = Callable[..., object]

SHAPES = ((1, 16), (1, 32), (1, 128), (8, 32), (8, 128))
BASE = "OpenVINO"
NAMES = ("input_ids", "attention_mask")
VOCABULARY = 30522
CALIBRATION_ROWS = 30


def parse() -> argparse.Namespace:
    """Arguments; threads must be known before torch is imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count CPU time, not wall time: with one thread, what a busy machine disturbs least",
    )
    parser.add_argument("--shapes", nargs="*", help="such as 1x16; all by default")
    parser.add_argument("--json", type=Path, help="also write all milliseconds to this file")
    parser.add_argument("--only", nargs="*", help="engines whose name contains one of these")
    return parser.parse_args()


def make_model(layers: int) -> Any:
    """A classifier of BERT-base's sizes that takes ids and mask and gives logits."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_hidden_layers=layers)).eval()

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return (self.model(input_ids=input_ids, attention_mask=attention_mask).logits,)

    return Logits().eval()


def make_inputs(batch: int, length: int) -> Inputs:
    """Random ids; from two rows on, the second is padded to its half."""
    import torch

    generator = torch.Generator().manual_seed(batch * 1000 + length)
    ids = torch.randint(1000, VOCABULARY, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    mask[1:2, length // 2 :] = 0
    return ids, mask


def calibration_inputs() -> list[Inputs]:
    """What int8 scales are found on, ours and OpenVINO's: single rows without padding."""
    return [make_inputs(1, length) for length in range(8, 8 + 4 * CALIBRATION_ROWS, 4)]


def ours(model: Any) -> dict[str, Engine]:
    """The traced module as saved, and packed as a worker packs it."""
    import torch

    from torchscript_bundle.jit.tracing import load, save
    from torchscript_bundle.serving.engine.onednn import calibrate, pack, pack_int8

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        traced = torch.jit.trace(model, make_inputs(2, 24), check_trace=False)
        save(traced, Path(folder) / "model.pt")
        loaded = load(Path(folder) / "model.pt", torch.device("cpu")).eval()
    examples = [make_inputs(*shape) for shape in ((1, 8), (3, 21))]
    calibration = calibrate(loaded, calibration_inputs())
    candidates = {
        "packed": pack(loaded, {"forward": examples}, torch.float32),
        "packed bfloat16": pack(loaded, {"forward": examples}, torch.bfloat16),
        "packed int8": pack_int8(loaded, examples, calibration),
    }
    engines: dict[str, Engine] = {"plain": loaded}
    for name, packed in candidates.items():
        if packed.reason is not None:
            print(f"{name}: {packed.reason}")
            continue
        engines[name] = packed
    return {name: _in_inference_mode(engine) for name, engine in engines.items()}


def _in_inference_mode(engine: Engine) -> Engine:
    import torch

    def run(*inputs: Any) -> object:
        with torch.inference_mode():
            return engine(*inputs)[0]  # type: ignore[index]

    return run


def eager(model: Any) -> dict[str, Engine]:
    """The model as transformers runs it."""
    return {"eager": _in_inference_mode(model)}


def openvino(model: Any, threads: int) -> dict[str, Engine]:
    """OpenVINO, converted from the same module, tuned for latency; int8 calibrated by NNCF."""
    import nncf
    import openvino as ov

    converted = ov.convert_model(model, example_input=make_inputs(2, 24))
    for port in converted.inputs:
        port.get_node().set_partial_shape(ov.PartialShape([-1, -1]))
    converted.validate_nodes_and_infer_types()
    samples = nncf.Dataset([tuple(part.numpy() for part in each) for each in calibration_inputs()])
    quantised = nncf.quantize(
        converted, samples, subset_size=CALIBRATION_ROWS, model_type=nncf.ModelType.TRANSFORMER
    )
    engines: dict[str, Engine] = {}
    for name, source, precision in (
        ("OpenVINO", converted, "f32"),
        ("OpenVINO bfloat16", converted, "bf16"),
        ("OpenVINO int8", quantised, "f32"),
    ):
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = ov.Core().compile_model(source, "CPU", options).create_infer_request()
        engines[name] = lambda ids, mask, request=request: request.infer(
            [ids.numpy(), mask.numpy()], share_inputs=True
        )[0]
    return engines


def onnx_runtime(model: Any, threads: int) -> dict[str, Engine]:
    """ONNX Runtime with all graph optimisations, from an export of the same module."""
    import onnxruntime
    import torch

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = str(Path(folder) / "model.onnx")
        torch.onnx.export(
            model,
            make_inputs(2, 24),
            path,
            input_names=list(NAMES),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in NAMES},
            opset_version=17,
            dynamo=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    return {
        "ONNX Runtime": lambda ids, mask: session.run(
            None, {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        )[0]
    }


def chosen_shapes(names: list[str] | None) -> list[tuple[int, int]]:
    """The shapes asked for, by name."""
    return [(b, n) for b, n in SHAPES if not names or f"{b}x{n}" in names]


def measure(
    engines: dict[str, Engine], inputs: Inputs, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Milliseconds of each engine in each round."""
    for engine in engines.values():
        for _ in range(3):
            engine(*inputs)
    took: dict[str, list[float]] = {name: [] for name in engines}
    for number in range(rounds):
        # Each engine follows each other one: what runs before leaves its caches behind.
        order = list(engines.items())
        order = order[number % len(order) :] + order[: number % len(order)]
        for name, engine in order:
            engine(*inputs)
            started = clock()
            engine(*inputs)
            took[name].append((clock() - started) * 1000)
    return took


def main() -> int:
    """Prints a table."""
    arguments = parse()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    model = make_model(arguments.layers)
    engines = ours(model) | eager(model)
    engines |= openvino(model, arguments.threads)
    engines |= onnx_runtime(model, arguments.threads)
    del model
    gc.collect()
    expected = torch.as_tensor(engines["plain"](*make_inputs(8, 32)))
    for name, engine in engines.items():
        logits = torch.as_tensor(engine(*make_inputs(8, 32))).reshape(8, -1)
        apart = (logits - expected).abs().max() / expected.abs().max()
        print(f"{name}: differs from plain by {apart:.1e} of the logits' scale")
    if arguments.only:
        engines = {n: e for n, e in engines.items() if any(each in n for each in arguments.only)}
    rounds: dict[str, dict[str, list[float]]] = {}
    for batch, length in chosen_shapes(arguments.shapes):
        took = measure(engines, make_inputs(batch, length), arguments.rounds, clock)
        rounds[f"{batch}x{length}"] = took
        print(f"{batch}x{length}", flush=True)
        for name, times in took.items():
            base = next((f"OpenVINO {each}" for each in ("bfloat16", "int8") if each in name), BASE)
            pairs = zip(times, took.get(base, times), strict=True)
            ratio = statistics.median(one / other for one, other in pairs)
            middle = statistics.median(times)
            print(f"  {name:18} {middle:8.1f} ms  min {min(times):8.1f}  {ratio:5.2f} of {base}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
