"""Prepare certain architectures for the tracer: one line each, with its reason.

A hint changes a copy of the model that shares its weights; the trace is compared with the original.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.scripted import (
    chunk_scan,
    cpmant,
    deepseek_v4,
    experts,
    funnel,
    gated_delta,
    jetmoe,
    kimi_delta,
    lightning,
    longformer,
    qwen4_exp,
    reformer,
    rglru,
    rwkv,
    selective_scan,
    xlstm,
)
from torchscript_bundle.jit.compilation import copy_sharing_tensors

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hint:
    """How to prepare an architecture for the tracer.

    `reason` says what goes wrong without it. `adapt` changes a copy of the model in place; it
    raises LookupError where the model lacks the modules to change.
    """

    reason: str
    adapt: Callable[[torch.nn.Module], None]


def replacements(
    **makers: Callable[[torch.nn.Module], torch.nn.Module],
) -> Callable[[torch.nn.Module], None]:
    """Return an adapter that replaces modules; `makers`: class name -> maker of a replacement."""

    def adapt(model: torch.nn.Module) -> None:
        made: set[str] = set()
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                maker = makers.get(type(child).__name__)
                if maker is not None:
                    made.add(type(child).__name__)
                    setattr(parent, name, maker(child).train(child.training))
        if missing := sorted(set(makers) - made):
            raise LookupError(
                f"{type(model).__name__} has no {', '.join(missing)}: this version of "
                "transformers names its modules otherwise than the hint for it does"
            )

    return adapt


def in_turn(*adapts: Callable[[torch.nn.Module], None]) -> Callable[[torch.nn.Module], None]:
    """Combine several changes, made one after the other."""

    def adapt(model: torch.nn.Module) -> None:
        for each in adapts:
            each(model)

    return adapt


_ROUTED = "a loop over the experts that a text's tokens chose; a trace keeps those of its example"
_DELTA = "a loop over chunks of 64 tokens; a trace holds as many as its example has"
_RECURRENT = "a loop over tokens; a trace holds one step for each token of its example"
_CHUNKED = (
    "the last chunk's filling is cut off only if there is any; a trace keeps its example's way"
)
_WINDOWS = (
    "texts are filled up to whole windows, cut by strides, and global tokens counted, in Python; a "
    "trace keeps its example's numbers"
)

#: model_type of the config -> hint.
HINTS: dict[str, Hint] = {
    "bailing_hybrid": Hint(_DELTA, kimi_delta.adapt),
    "bamba": Hint(_CHUNKED, chunk_scan.adapt),
    "cpmant": Hint("positions are listed in Python; a trace holds its example's", cpmant.adapt),
    "dbrx": Hint(_ROUTED, replacements(DbrxExperts=experts.DbrxExperts)),
    "deepseek_v4": Hint(
        "windows are counted in Python; a trace takes each text to have as many as its example",
        deepseek_v4.adapt,
    ),
    "falcon_h1": Hint(_CHUNKED, chunk_scan.adapt),
    "falcon_mamba": Hint(_RECURRENT, selective_scan.adapt),
    "funnel": Hint("positions are listed in Python; a trace holds its example's", funnel.adapt),
    "granitemoehybrid": Hint(_CHUNKED, chunk_scan.adapt),
    "jamba": Hint(_RECURRENT, selective_scan.adapt),
    "jetmoe": Hint(
        "tokens are split among experts by numbers from `.tolist()`; a trace keeps its example's",
        replacements(JetMoeTopKGating=jetmoe.Gating, JetMoeParallelExperts=jetmoe.ParallelExperts),
    ),
    "kimi_linear": Hint(_DELTA, kimi_delta.adapt),
    "led": Hint(
        _WINDOWS,
        in_turn(replacements(LEDEncoderSelfAttention=longformer.SelfAttention), longformer.fill_up),
    ),
    "longcat_flash": Hint(_ROUTED, replacements(LongcatFlashExperts=experts.LongcatFlashExperts)),
    "longformer": Hint(
        _WINDOWS,
        in_turn(replacements(LongformerSelfAttention=longformer.SelfAttention), longformer.fill_up),
    ),
    "mamba": Hint(_RECURRENT, selective_scan.adapt),
    "mamba2": Hint(_CHUNKED, chunk_scan.adapt),
    "minimax": Hint(
        "a loop over blocks of tokens; a trace holds as many as its example has", lightning.adapt
    ),
    "nemotron_h": Hint(_CHUNKED, chunk_scan.adapt),
    "olmo_hybrid": Hint(_DELTA, gated_delta.adapt),
    "openai_privacy_filter": Hint(
        _ROUTED, replacements(OpenAIPrivacyFilterExperts=experts.PrivacyFilterExperts)
    ),
    "qwen3_5": Hint(_DELTA, gated_delta.adapt),
    "qwen3_5_moe_text": Hint(_DELTA, gated_delta.adapt),
    "qwen3_5_text": Hint(_DELTA, gated_delta.adapt),
    "qwen3_next": Hint(_DELTA, gated_delta.adapt),
    "qwen4_exp_text": Hint(
        "a loop over each query's visible blocks and one over chunks of 64 tokens; a trace keeps "
        "those of its example",
        in_turn(replacements(Qwen4ExpTextQSAIndexer=qwen4_exp.Indexer), gated_delta.adapt),
    ),
    "recurrent_gemma": Hint(_RECURRENT, rglru.adapt),
    "reformer": Hint(
        "hashes are drawn, and chunks are filled and cut, as the example in the trace needs it",
        reformer.adapt,
    ),
    "rwkv": Hint(_RECURRENT, rwkv.adapt),
    "xlstm": Hint(_RECURRENT, xlstm.adapt),
    "zamba": Hint(_RECURRENT, selective_scan.adapt),
    "zamba2": Hint(_CHUNKED, chunk_scan.adapt),
}

#: model_type -> why serving it is of no use.
REFUSED = {
    "mra": "its attention is a CUDA kernel of its own, without which transformers returns zeros",
}


def traceable(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model, or a copy with its hint applied; raise ExportError if it is `REFUSED`."""
    check_servable(model)
    model_type = _model_type(model)
    hint = HINTS.get(model_type)
    if hint is None:
        return model
    adapted = copy_sharing_tensors(model)
    try:
        hint.adapt(adapted)
    except LookupError as error:  # another version of transformers, which may not need it
        logger.warning("%s: traced as it is, without the hint for %s", error, model_type)
        return model
    return adapted


def check_servable(model: torch.nn.Module) -> None:
    """Raise ExportError for an architecture in `REFUSED`."""
    model_type = _model_type(model)
    if model_type in REFUSED:
        raise ExportError(f"{model_type} cannot be served: {REFUSED[model_type]}; choose another")


def _model_type(model: torch.nn.Module) -> str:
    return str(getattr(getattr(model, "config", None), "model_type", ""))
