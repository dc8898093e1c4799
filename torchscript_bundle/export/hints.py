"""What single architectures need to be traced: one line each, with its reason.

A hint changes a copy of the model that shares its weights. The original stays as transformers made
it, and is what the trace is compared with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from torchscript_bundle.export.scripted import experts, jetmoe, qwen4_exp
from torchscript_bundle.jit.compilation import copy_sharing_tensors


@dataclass(frozen=True)
class Hint:
    """How an architecture is made ready for the tracer.

    Attributes:
        reason: what goes wrong without it.
        adapt: changes the model's copy in place.
    """

    reason: str
    adapt: Callable[[torch.nn.Module], None]


def stand_ins(
    **makers: Callable[[torch.nn.Module], torch.nn.Module],
) -> Callable[[torch.nn.Module], None]:
    """Puts other modules in the place of all of some classes.

    Args:
        makers: name of a class -> what makes the stand-in, given the module of that class.

    Raises:
        LookupError: the model has no module of a class; the message names it.
    """

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


_ROUTED = "a loop over the experts that a text's tokens chose; a trace keeps those of its example"

#: model_type of the config -> hint.
HINTS: dict[str, Hint] = {
    "dbrx": Hint(_ROUTED, stand_ins(DbrxExperts=experts.DbrxExperts)),
    "jetmoe": Hint(
        "tokens are split among experts by numbers from `.tolist()`; a trace keeps its example's",
        stand_ins(
            JetMoeTopKGating=jetmoe.Gating, JetMoeParallelExperts=jetmoe.ParallelExperts
        ),
    ),
    "longcat_flash": Hint(_ROUTED, stand_ins(LongcatFlashExperts=experts.LongcatFlashExperts)),
    "openai_privacy_filter": Hint(
        _ROUTED, stand_ins(OpenAIPrivacyFilterExperts=experts.PrivacyFilterExperts)
    ),
    "qwen4_exp_text": Hint(
        "a loop over each query's visible blocks; a trace keeps those of its example",
        stand_ins(Qwen4ExpTextQSAIndexer=qwen4_exp.Indexer),
    ),
}


def traceable(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself, or a copy with its architecture's hint applied."""
    hint = HINTS.get(getattr(getattr(model, "config", None), "model_type", ""))
    if hint is None:
        return model
    adapted = copy_sharing_tensors(model)
    hint.adapt(adapted)
    return adapted
