"""From a model that writes to one module that needs no Python, proven beside the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.generation.core import Core
from torchscript_bundle.export.generation.decoder_only import DecoderOnly
from torchscript_bundle.export.generation.encoder_decoder import EncoderDecoder
from torchscript_bundle.export.generation.facts import GeneratorFacts
from torchscript_bundle.export.generation.trials import Trial, Trials
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.masks import masks_by_broadcasting
from torchscript_bundle.jit import accept_deprecation, record_tracer_warnings, trace_module
from torchscript_bundle.jit.compilation import copy_sharing_tensors
from torchscript_bundle.jit.generation.generator import Generator
from torchscript_bundle.jit.verify import TOLERANCE, Report, last_line, verify_cases

#: Sizes of the example that is traced, each unlike the others so that none is taken for another.
ROWS, LENGTH, SLOTS, ROOM = 2, 6, 3, 11


@dataclass
class GeneratorProof:
    """A generator with what was tried of it.

    Attributes:
        module: the ScriptModule, an instance of `jit.generation.generator.Generator`.
        facts: what it was made with.
        trials: inputs and transformers' answers, for further checks.
        reports: how the module did, one for each trial.
        warnings: what the tracer warned of.
    """

    module: torch.jit.ScriptModule
    facts: GeneratorFacts
    trials: list[Trial]
    reports: list[Report]
    warnings: tuple[str, ...] = ()

    def in_words(self) -> str:
        """What holds, for people."""
        source = f", after sources of up to {self.facts.max_source_length}"
        return f"any batch, texts of up to {self.facts.max_length} tokens" + (
            source if self.facts.max_source_length else ""
        )

    def as_dict(self) -> dict[str, Any]:
        """The proof for `bundle.json`."""
        tried = zip(self.trials, self.reports, strict=True)
        return {
            "holds": self.in_words(),
            "tolerance": TOLERANCE,
            "worst_relative_difference": max(report.worst for report in self.reports),
            "trials": {trial.name: report.as_dict()["cases"] for trial, report in tried},
            "tracer_warnings": list(self.warnings),
        }


def make_generator(
    model: Any, facts: GeneratorFacts, ordinary: Sequence[int] | None = None
) -> GeneratorProof:
    """Traces reading and writing, scripts the loop around them, and compares with `generate`.

    Args:
        model: a causal LM or an encoder-decoder as transformers loads it, in eval mode.
        facts: see `read_facts`.
        ordinary: token ids that texts are made of, for the trials; all but the special ones of
            `facts` where not given.

    Raises:
        ExportError: the model keeps something else than keys and values, cannot be traced, or the
            module does not write as it does; the message names the shape.
    """
    core = _core(traceable(_without_gradients(model)), facts)
    try:
        traced, vocabulary, warnings = _trace(core)
    except Exception as error:  # a model's own code runs here
        raise ExportError(f"tracing failed: {last_line(error)}; choose another model") from error
    with accept_deprecation():
        module = torch.jit.script(
            Generator(
                traced,
                growing=core.growing,
                vocabulary=vocabulary,
                max_length=facts.max_length,
                max_source_length=facts.max_source_length,
                eos_ids=list(facts.eos_ids),
                pad_id=facts.pad_id,
                start_id=facts.start_id,
                first_id=facts.first_id,
                last_id=facts.last_id,
            ).eval()
        )
    texts = _ordinary(facts, vocabulary) if ordinary is None else torch.tensor(sorted(ordinary))
    trials = Trials(model, facts, texts).make()
    return GeneratorProof(module, facts, trials, compare_all(module, trials), warnings)


def compare_all(module: Any, trials: Sequence[Trial]) -> list[Report]:
    """Puts a generator to the trials: the one that was made, or what its file gives back.

    Raises:
        ExportError: it does not answer as transformers does; the message names the first shape.
    """
    reports = []
    for trial in tqdm(trials, desc="      compare", unit="trial", leave=False, disable=None):
        report = verify_cases(_bound(trial, module), trial.cases, stop_early=True)
        if report.broken is not None:
            raise ExportError(
                f"the traced model does not write as the model does, in {trial.name}, at "
                f"{report.broken}; TorchScript cannot serve this model exactly, choose another"
            )
        reports.append(report)
    return reports


def _bound(trial: Trial, module: Any) -> Callable[..., tuple[Tensor, ...]]:
    return lambda *inputs: trial.run(module, inputs)


def _without_gradients(model: Any) -> Any:
    """A copy that shares the weights' memory: else a loop would keep every step for a backward."""
    copied = copy_sharing_tensors(model)
    weights: dict[int, torch.nn.Parameter] = {}
    for module in copied.modules():
        for name, weight in module.named_parameters(recurse=False, remove_duplicate=False):
            plain = torch.nn.Parameter(weight.detach(), requires_grad=False)
            module.register_parameter(name, weights.setdefault(id(weight), plain))
    return copied


def _core(model: Any, facts: GeneratorFacts) -> Core:
    if facts.start_id >= 0:
        return EncoderDecoder(model, facts.start_id)
    return DecoderOnly(model)


def _trace(core: Core) -> tuple[torch.jit.ScriptModule, int, tuple[str, ...]]:
    """The traced core, the size of its vocabulary, and the tracer's warnings."""
    ids = torch.ones(ROWS, LENGTH, dtype=torch.int64, device=core.model.device)
    mask = torch.ones_like(ids)
    with torch.no_grad(), record_tracer_warnings() as warnings, masks_by_broadcasting():
        logits, own_mask, source_mask, tensors = core.prefill(ids, mask)
        buffers = [
            _buffer(tensor, ROOM if index < core.growing else tensor.shape[2])
            for index, tensor in enumerate(tensors)
        ]
        longer = torch.cat([own_mask, own_mask[:, -1:]], 1)
        inputs = {
            "prefill": (ids, mask),
            "step": (ids[:, :1], longer, source_mask, buffers),
        }
        # Not in place: what is traced may be what the trace is compared with.
        traced = trace_module(core, inputs, in_place=False, strict=False)
    return traced, logits.shape[-1], tuple(warnings)


def _buffer(tensor: Tensor, room: int) -> Tensor:
    """Memory as `jit.generation.cache` reserves it, with more slots than rows."""
    rows, heads, used, size = tensor.shape
    buffer = tensor.new_zeros(SLOTS, heads, room, size)
    buffer[:rows, :, :used] = tensor
    return buffer


def _ordinary(facts: GeneratorFacts, vocabulary: int) -> Tensor:
    special = {*facts.eos_ids, facts.pad_id, facts.start_id, facts.first_id, facts.last_id}
    return torch.tensor([token for token in range(vocabulary) if token not in special])
