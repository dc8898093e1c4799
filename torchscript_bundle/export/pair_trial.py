"""The trial of pairs of texts with a model whose mode takes single texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from torchscript_bundle.export.claims import PAIR_BATCHES
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.oracle import NOT_TOGETHER, covered, padding_effect, run_grid
from torchscript_bundle.export.proof import Proof
from torchscript_bundle.jit.verify import Case

#: Cases of pairs -> why the module must not be given any, or None.
Objection = Callable[[Sequence[Case]], str | None]


def try_pairs(
    proof: Proof,
    eager: torch.nn.Module,
    make_pairs: InputMaker,
    lengths: tuple[int, ...],
    objection: Objection,
) -> Proof:
    """Return the proof with cases of pairs, or with the reason why pairs are refused.

    Pairs must hold for the claim of the proof. `objection` judges the eager model's answers. The
    report has results on pairs once the module's file is compared.
    """
    try:
        grid = run_grid(eager, make_pairs, lengths, PAIR_BATCHES)
    except ExportError as error:
        return replace(proof, pairs_refused=str(error))
    cases = covered(eager, grid, proof.claim, lengths)
    apart = next((case.shape for case in cases if not case.expected), None)
    refused = f"{apart}: {NOT_TOGETHER}" if apart else objection(cases)
    if refused is not None:
        return replace(proof, pairs_refused=refused)
    effect = max(proof.padding_effect, padding_effect(eager, make_pairs, lengths[-1]))
    return replace(proof, pairs=True, cases=[*proof.cases, *cases], padding_effect=effect)
