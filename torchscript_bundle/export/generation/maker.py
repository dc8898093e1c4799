"""From a generative model to one ScriptModule, compared with the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from torchscript_bundle.export.claims import Claim
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.generation.core import Core
from torchscript_bundle.export.generation.decoder_only import DecoderOnly
from torchscript_bundle.export.generation.eager_oracle import dictated_logits
from torchscript_bundle.export.generation.encoder_decoder import EncoderDecoder
from torchscript_bundle.export.generation.facts import GeneratorFacts
from torchscript_bundle.export.generation.trials import Trial, Trials
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.masks import masks_by_broadcasting
from torchscript_bundle.export.proof import Proof
from torchscript_bundle.jit import accept_deprecation, record_tracer_warnings, trace_module
from torchscript_bundle.jit.compilation import copy_sharing_tensors
from torchscript_bundle.jit.generation.generator import Generator
from torchscript_bundle.jit.verify import Report, Result, last_line, verify_cases

#: Sizes of the traced example, all distinct.
ROWS, LENGTH, SLOTS, ROOM = 2, 6, 3, 11


@dataclass
class GeneratorProof(Proof):
    """A proof whose cases belong to trials; see `Proof`."""

    module: torch.jit.ScriptModule
    facts: GeneratorFacts = field(kw_only=True)
    trials: list[Trial] = field(kw_only=True)

    def in_words(self) -> str:
        """Return what holds, for people."""
        source = f", after sources of up to {self.facts.max_source_length}"
        return f"any batch, texts of up to {self.facts.max_length} tokens" + (
            source if self.facts.max_source_length else ""
        )

    def compare(self, module: Any, title: str) -> Report:
        """Run the trials on another module; `compare_all` has the errors."""
        return compare_all(module, self.trials)

    def as_dict(self) -> dict[str, Any]:
        """Return the proof for `bundle.json`: each case names its trial."""
        names = [trial.name for trial in self.trials for _ in trial.cases]
        cases = zip(names, self.report.results, strict=True)
        return {
            **super().as_dict(),
            "cases": [{"trial": name, **asdict(result)} for name, result in cases],
            "settings_not_followed": list(self.facts.ignored),
        }


def make_generator(
    model: Any, facts: GeneratorFacts, ordinary: Sequence[int] | None = None
) -> GeneratorProof:
    """Trace the model, script the loop around it, and compare with `generate`.

    The trials' texts are made of `ordinary` token ids, by default of all but the special ones of
    `facts`. ExportError: the model caches more than keys and values, cannot be traced, or generates
    other tokens than the module; the message names the shape.
    """
    plain, seq2seq = traceable(_without_gradients(model)), facts.start_id >= 0
    core: Core = EncoderDecoder(plain, facts.start_id) if seq2seq else DecoderOnly(plain)
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
    return GeneratorProof(
        module=module,
        claim=Claim(dynamic_batch=True, dynamic_length=True),
        lengths=(facts.max_length,),
        cases=[case for trial in trials for case in trial.cases],
        report=compare_all(module, trials),
        padding_effect=_padding_effect(model, facts, trials),
        warnings=warnings,
        facts=facts,
        trials=trials,
    )


def compare_all(module: Any, trials: Sequence[Trial]) -> Report:
    """Run the trials on a generator; ExportError names the first shape that differs."""
    results: list[Result] = []
    for trial in tqdm(trials, desc="      compare", unit="trial", leave=False, disable=None):
        report = verify_cases(_bound(trial, module), trial.cases, stop_early=True)
        if report.broken is not None:
            raise ExportError(
                f"the traced model does not write as the model does, in {trial.name}, at "
                f"{report.broken}; TorchScript cannot serve this model exactly, choose another"
            )
        results += report.results
    return Report(tuple(results))


def _bound(trial: Trial, module: Any) -> Callable[..., tuple[Tensor, ...]]:
    return lambda *inputs: trial.run(module, inputs)


def _without_gradients(model: Any) -> Any:
    """Return a copy that shares the weights' memory, so that no step is kept for a backward."""
    copied = copy_sharing_tensors(model)
    weights: dict[int, torch.nn.Parameter] = {}
    for module in copied.modules():
        for name, weight in module.named_parameters(recurse=False, remove_duplicate=False):
            plain = torch.nn.Parameter(weight.detach(), requires_grad=False)
            module.register_parameter(name, weights.setdefault(id(weight), plain))
    return copied


def _trace(core: Core) -> tuple[torch.jit.ScriptModule, int, tuple[str, ...]]:
    """Return the traced core, the size of its vocabulary, and the tracer's warnings."""
    ids = torch.ones(ROWS, LENGTH, dtype=torch.int64, device=core.model.device)
    mask = torch.ones_like(ids)
    with torch.no_grad(), record_tracer_warnings() as warnings, masks_by_broadcasting():
        logits, own_mask, source_mask, tensors = core.prefill(ids, mask)
        buffers = [
            _buffer(tensor, ROOM if index < core.growing else tensor.shape[2])
            for index, tensor in enumerate(tensors)
        ]
        longer = torch.cat([own_mask, own_mask[:, -1:]], 1)
        inputs = {"prefill": (ids, mask), "step": (ids[:, :1], longer, source_mask, buffers)}
        # Not in place: the trace may be compared with the same module.
        traced = trace_module(core, inputs, in_place=False, strict=False)
    return traced, logits.shape[-1], tuple(warnings)


def _buffer(tensor: Tensor, room: int) -> Tensor:
    """Return memory as `jit.generation.cache` reserves it, with more slots than rows."""
    rows, heads, used, size = tensor.shape
    buffer = tensor.new_zeros(SLOTS, heads, room, size)
    buffer[:rows, :, :used] = tensor
    return buffer


def _ordinary(facts: GeneratorFacts, vocabulary: int) -> Tensor:
    special = {*facts.eos_ids, facts.pad_id, facts.start_id, facts.first_id, facts.last_id}
    return torch.tensor([token for token in range(vocabulary) if token not in special])


def _padding_effect(model: Any, facts: GeneratorFacts, trials: Sequence[Trial]) -> float:
    """Return how far the model's logits of a padded row are from those of it alone, by scale."""
    cases = [case for case in trials[0].cases if not bool(case.inputs[1][0].all())]
    padded = max(cases, key=lambda case: case.shape.length)
    ids, mask, tokens = padded.inputs
    real = mask[0] == 1
    alone = dictated_logits(model, facts, ids[:1, real], mask[:1, real], tokens[:1])
    together = padded.expected[0][:1]
    return float((together - alone).abs().max() / alone.abs().max())
