"""One architecture with one head, through the exporter: a row of the table."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from architectures.heads import HEADS, Head
from architectures.scope import OUT_OF_SCOPE
from architectures.sizes import MAX_LENGTH
from architectures.tiny_models import tiny_model
from architectures.tokenizer import SPECIAL, make_tokenizer
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.inputs import InputMaker, input_names
from torchscript_bundle.export.masked_logits import wrap_masked
from torchscript_bundle.export.proof import Proof, prove, reads_padding, save_and_compare
from torchscript_bundle.export.tokenizer_file import special_ids
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.jit.verify import Shape, flatten

CPU = torch.device("cpu")
#: What a model whose length is static is traced at.
LENGTHS = (16, MAX_LENGTH)
#: Another text must move the answer by this share of its scale, far above the tolerance.
AUDIBLE = 1e-3

Status = Literal["exact", "refused", "out of scope", "crashed"]


@dataclass(frozen=True)
class Row:
    """What became of an architecture.

    Attributes:
        head: key of `HEADS`.
        model_type: key of transformers' config mapping.
        status: exact at what the next two say, or not exported.
        batch: "any" or "1"; empty if not exported.
        length: "any" or "traced"; empty if not exported.
        note: why it was not exported, or what to know of how it is.
        seconds: what it took.
    """

    head: str
    model_type: str
    status: Status
    batch: str = ""
    length: str = ""
    note: str = ""
    seconds: float = 0.0


def check(head_name: str, model_type: str) -> Row:
    """Exports a tiny random model by the code that users run, short of the archive."""
    row = partial(Row, head_name, model_type)
    if model_type in OUT_OF_SCOPE:
        return row("out of scope", note=OUT_OF_SCOPE[model_type])
    started = time.perf_counter()
    try:
        proof = _prove(HEADS[head_name], model_type)
        padding = reads_padding(proof)
    except ExportError as error:
        return row("refused", note=str(error), seconds=time.perf_counter() - started)
    return row(
        "exact",
        batch="any" if proof.claim.dynamic_batch else "1",
        length="any" if proof.claim.dynamic_length else "traced",
        note="reads padding: rows of equal length only" if padding else "",
        seconds=time.perf_counter() - started,
    )


def _prove(head: Head, model_type: str) -> Proof:
    model = tiny_model(model_type, head.auto_class)
    # Longformer asks a pair for three separators, and fails with two.
    doubled = head.pairs and model_type == "longformer"
    tokenizer = make_tokenizer(framed=head.framed, doubled=doubled)
    inputs = input_names(model, tokenizer)
    special = special_ids(tokenizer)[head.special] if head.special else None
    make_inputs = InputMaker(tokenizer, inputs, CPU, pairs=head.pairs, holding=special)
    if special is None:
        wrap = reference = partial(wrap_model, inputs=inputs, outputs=head.outputs)
    else:
        wrap, reference = (
            partial(wrap_masked, inputs=inputs, mask_id=special, before_output_layer=early)
            for early in (True, False)
        )
    proof = prove(model, wrap, make_inputs, LENGTHS, reference)
    _check_audible(reference(model), make_inputs)
    with tempfile.TemporaryDirectory() as folder:
        return save_and_compare(proof, Path(folder) / "module.pt", CPU)


def _check_audible(eager: Any, make_inputs: InputMaker) -> None:
    """A model that does not listen to its text would be proven by anything.

    Raises:
        AssertionError: another text gets the same answer.
    """
    inputs = make_inputs(Shape(2, MAX_LENGTH))
    ids = inputs[0]
    others = torch.where(ids >= len(SPECIAL), len(SPECIAL) + (ids + 50) % 200, ids)
    first, second = _run(eager, inputs), _run(eager, (others, *inputs[1:]))
    for before, after in zip(first, second, strict=True):
        moved = float((before - after).abs().max() / before.abs().max())
        assert moved > AUDIBLE, f"another text moves the answer by {moved:.1g} of its scale only"


def _run(eager: Any, inputs: Tensors) -> Tensors:
    with torch.no_grad():
        return flatten(eager(*inputs))
