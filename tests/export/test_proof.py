"""The proof claims what was seen to hold, and never more."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BigBirdConfig,
    BigBirdForSequenceClassification,
)

from tests import tiny
from tests.export.helpers import refused
from torchscript_bundle.export.claims import CLAIMS, Claim, grid
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.oracle import padding_effect
from torchscript_bundle.export.proof import Proof, prove, reads_padding
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit import compile_mode, tracing
from torchscript_bundle.jit.verify import TOLERANCE, Shape

TWO = ("input_ids", "attention_mask")
MAKE = InputMaker(tiny.byte_level_tokenizer(), TWO, torch.device("cpu"))


class Toy(torch.nn.Module):
    """A classifier in two lines; subclasses go wrong in one way each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(tiny.VOCABULARY, 3)

    def pool(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`[batch, length]` each -> `[batch, 3]`."""
        return (self.embedding(ids) * mask[:, :, None]).sum(1)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.pool(ids, mask),)


class BakesLength(Toy):
    """Correct at the traced length, silently wrong at any other."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.pool(ids, mask) / math.sqrt(int(ids.shape[1])),)


class BakesBatch(Toy):
    """Correct at the traced number of rows, silently wrong at any other."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.pool(ids, mask) / int(ids.shape[0]),)


class BakesBoth(Toy):
    """Correct at the traced shape only."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.pool(ids, mask) / (int(ids.shape[0]) + int(ids.shape[1])),)


class BranchesOnPadding(Toy):
    """Python chooses by what is in the batch: a trace keeps one of the two ways."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        output = self.pool(ids, mask)
        return (-output if bool(mask.all()) else output,)


@compile_mode("script")
class NegatesUnpadded(torch.nn.Module):
    """The same choice, compiled as it says."""

    def forward(self, output: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return -output if bool(mask.all()) else output


class BranchesInAScriptedChild(Toy):
    """A trace keeps both ways, since the child says how it is compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.negate = NegatesUnpadded()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.negate(self.pool(ids, mask), mask),)


class BranchesOnText(Toy):
    """The same by the first word of the text, for one text in `odds`."""

    def __init__(self, odds: int) -> None:
        super().__init__()
        self.odds = odds

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        output = self.pool(ids, mask)
        return (output if int(ids[0, 1]) % self.odds else -output,)


class FailsWhenLong(Toy):
    """Has positions for 20 tokens."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        if ids.shape[1] > 20:
            raise IndexError("20 positions and no more")
        return super().forward(ids, mask)


class ReadsPadding(Toy):
    """Means over padding too."""

    def pool(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.embedding(ids).mean(1)


class ReadsPaddingAtOddLengths(Toy):
    """Takes tokens in twos, and the last of an odd number alone."""

    def pool(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        embedded = torch.nn.functional.pad(self.embedding(ids) * mask[:, :, None], (0, 0, 0, 1))
        first, second = embedded[:, :-1:2], embedded[:, 1::2]
        alone = ids.shape[1] % 2 * first[:, -1]
        return torch.tanh(first + second).sum(1) + alone


class FailsWhenShort(Toy):
    """Takes the last but four."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.pool(ids, mask) + self.embedding(ids).select(1, -5),)


def prove_checkpoint(folder: Path, lengths: tuple[int, ...]) -> Proof:
    """The proof of a saved classifier."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    typed = "token_type_ids" in tokenizer.model_input_names
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    inputs = (*TWO, *(("token_type_ids",) if typed else ()))
    make_inputs = InputMaker(tokenizer, inputs, torch.device("cpu"))
    return prove(model, partial(wrap_model, inputs=inputs), make_inputs, lengths)


def prove_toy(toy: torch.nn.Module, lengths: tuple[int, ...]) -> Proof:
    """The proof of a module that takes and returns tensors as it is."""
    return prove(toy, lambda module: module, MAKE, lengths)


def covered(found: Proof) -> set[tuple[int, int, bool]]:
    """Batch, length and padding of each case of the report."""
    shapes = [case["shape"] for case in found.as_dict()["cases"]]
    return {(shape["batch"], shape["length"], shape["padded"]) for shape in shapes}


def test_the_grid_is_as_specified() -> None:
    shapes = {(shape.batch, shape.length, shape.padded) for shape in grid(150, (150,), 8)}
    lengths = {8, 16, 33, 75, 150}
    assert shapes == {
        (b, length, p) for b in (1, 2, 5, 8) for length in lengths for p in (True, False)
    }
    assert {shape.length for shape in grid(128, (20, 128), 8)} == {8, 16, 20, 33, 64, 128}
    assert {shape.length for shape in grid(20, (20,), 3)} == {3, 8, 10, 16, 20}
    assert {shape.length for shape in grid(4, (4,), 4)} == {4}
    assert TOLERANCE == 1e-5


def test_bert_holds_everywhere(checkpoint: Callable[[str], Path]) -> None:
    found = prove_checkpoint(checkpoint("bert"), (20, 48))
    assert found.claim == Claim(dynamic_batch=True, dynamic_length=True)
    assert found.refused == []
    assert found.in_words() == "any batch, any length from 2 to 48"
    lengths = {8, 16, 20, 24, 33, 48}
    ordinary = {(b, length, p) for b in (1, 2, 5, 8) for length in lengths for p in (True, False)}
    assert covered(found) == ordinary | {(b, 2, False) for b in (1, 2, 5, 8)}
    assert found.report.worst <= 1e-5
    assert found.as_dict()["tracer_warnings"] == list(found.warnings)


def test_a_fixed_length_holds_at_traced_lengths(checkpoint: Callable[[str], Path]) -> None:
    found = prove_checkpoint(checkpoint("fixed_length"), (16, 32))
    assert found.claim == Claim(dynamic_batch=True, dynamic_length=False)
    assert found.in_words() == "any batch, length 16 or 32 only"
    assert covered(found) == {
        (b, length, p) for b in (1, 2, 5, 8) for length in (16, 32) for p in (True, False)
    }
    assert "any batch, any length" in found.as_dict()["refused_claims"]
    assert found.as_dict()["tracer_warnings_explained"]


def test_a_fixed_shape_holds_row_by_row(checkpoint: Callable[[str], Path]) -> None:
    found = prove_checkpoint(checkpoint("fixed_shape"), (16, 32))
    assert found.claim == Claim(dynamic_batch=False, dynamic_length=False)
    assert found.in_words() == "batch 1, length 16 or 32 only"
    assert covered(found) == {(1, length, p) for length in (16, 32) for p in (True, False)}
    assert len(found.refused) == 3


@pytest.mark.parametrize(
    ("toy", "claim"),
    [
        (Toy, Claim(dynamic_batch=True, dynamic_length=True)),
        (BakesLength, Claim(dynamic_batch=True, dynamic_length=False)),
        (BakesBatch, Claim(dynamic_batch=False, dynamic_length=True)),
        (BakesBoth, Claim(dynamic_batch=False, dynamic_length=False)),
    ],
)
def test_what_a_trace_baked_in_is_not_claimed(toy: type[Toy], claim: Claim) -> None:
    """None of these raises at a foreign shape: only the answer tells."""
    eager = toy().eval()
    found = prove_toy(eager, (12, 24))
    assert found.claim == claim
    stronger = CLAIMS[: CLAIMS.index(claim)]
    assert [refused_claim for refused_claim, _ in found.refused] == list(stronger)
    assert all(": wrong, output" in reason or "differs" in reason for _, reason in found.refused)
    for batch, length in ((1, 12), (1, 24), (3, 24), (3, 17)):
        if (claim.dynamic_batch or batch == 1) and (claim.dynamic_length or length in (12, 24)):
            inputs = MAKE(Shape(batch, length, padded=True))
            torch.testing.assert_close(found.module(*inputs), eager(*inputs))
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_static_module_refuses_a_length_that_was_not_traced() -> None:
    found = prove_toy(BakesLength().eval(), (12, 24))
    with pytest.raises(torch.jit.Error, match="was not traced, only"):
        found.module(*MAKE(Shape(2, 13, padded=False)))


@pytest.mark.parametrize("lengths", [(16,), (8, 16)])
@pytest.mark.parametrize(
    "toy", [BranchesOnPadding, *(partial(BranchesOnText, odds) for odds in (2, 3, 5, 8))]
)
def test_refuses_what_is_wrong_at_the_traced_shape(
    toy: Callable[[], Toy], lengths: tuple[int, ...]
) -> None:
    with refused("does not answer as the model does", "batch 1, length", "wrong") as refusal:
        prove_toy(toy().eval(), lengths)
    assert "padded rows" in refusal.sentence


def test_compile_modes_inside_the_model_are_honoured_and_the_model_stays_eager() -> None:
    eager = BranchesInAScriptedChild().eval()
    found = prove_toy(eager, (12, 24))
    assert found.claim == Claim(dynamic_batch=True, dynamic_length=True)
    assert (found.refused, found.warnings) == ([], ())
    assert type(eager.negate) is NegatesUnpadded


def test_refuses_where_the_model_itself_fails() -> None:
    with refused("the model itself fails at batch 2, length 24, padded rows", "20 positions"):
        prove_toy(FailsWhenLong().eval(), (24,))


def test_the_shortest_text_is_the_shortest_that_the_model_takes() -> None:
    found = prove_toy(FailsWhenShort().eval(), (24,))
    assert MAKE.shortest == 2
    assert found.in_words() == "any batch, any length from 5 to 24"


def test_padding_effect_tells_architectures_apart() -> None:
    assert padding_effect(Toy().eval(), MAKE, 32) < 1e-5
    assert padding_effect(ReadsPadding().eval(), MAKE, 32) > 0.1
    assert padding_effect(ReadsPaddingAtOddLengths().eval(), MAKE, 32) > 0.1


def test_a_module_named_by_a_digest_loads_again(tmp_path: Path) -> None:
    """transformers gives a model's own code such a name; TorchScript writes it into the file."""
    remote = type("Remote", (Toy,), {"__module__": "remote.3f2a.7c.own"})
    found = prove_toy(remote().eval(), (16,))
    tracing.save(found.module, tmp_path / "module.pt")
    loaded = tracing.load(tmp_path / "module.pt", torch.device("cpu"))
    inputs = MAKE(Shape(3, 16, padded=True))
    torch.testing.assert_close(loaded(*inputs), remote().eval()(*inputs))
    assert remote.__module__ == "remote.3f2a.7c.own"


def test_bart_is_never_batched(checkpoint: Callable[[str], Path]) -> None:
    """A text that spells an end of sentence out would move its neighbours' pooling."""
    found = prove_checkpoint(checkpoint("bart"), (20, 48))
    assert found.claim.dynamic_batch is False
    assert "cannot run such rows together" in found.refused[0][1]


def test_a_tokenizer_saved_with_padding_of_its_own_hides_nothing() -> None:
    make = InputMaker(tiny.fixed_padding_tokenizer(), TWO, torch.device("cpu"))
    ids, mask = make(Shape(5, 32, padded=True))
    assert make.shortest == 2
    assert mask.sum(1).min() == 2
    assert mask.sum(1).max() == 32
    assert (ids[mask == 1] != 0).all()


def test_special_tokens_stand_in_the_text_in_different_numbers() -> None:
    ids, mask = MAKE(Shape(2, 32, padded=True, spelled=True))
    assert ((ids == 2) & (mask == 1)).sum(1).tolist() == [2, 3]


def test_a_model_that_reads_padding_is_never_padded(artifact: Callable[[str], Path]) -> None:
    bundle = json.loads((artifact("convbert") / "bundle.json").read_text())
    assert bundle["reads_padding"] is True
    assert bundle["verification"]["padding_effect"] > 1e-4
    assert json.loads((artifact("bert") / "bundle.json").read_text())["reads_padding"] is False


def test_reading_padding_at_a_static_length_is_refused() -> None:
    found = prove_toy(BakesLength().eval(), (12, 24))
    with refused("padding changes", "choose another model"):
        reads_padding(replace(found, padding_effect=0.5))
    assert reads_padding(prove_toy(Toy().eval(), (24,))) is False


class DrawsLots(Toy):
    """Answers as the dice fall."""

    def pool(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return super().pool(ids, mask) + torch.rand(1)


class Remembers(Toy):
    """Looks at less of a text for ever, once it has seen a short one."""

    def pool(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.short = getattr(self, "short", False) or ids.shape[1] < 10
        return super().pool(ids[:, :3], mask[:, :3]) if self.short else super().pool(ids, mask)


@pytest.mark.parametrize("toy", [DrawsLots, Remembers])
def test_refuses_a_model_that_answers_the_same_text_differently(toy: type[Toy]) -> None:
    with refused("answers the same text differently after others", "another max_length"):
        prove_toy(toy().eval(), (24,))


def test_refuses_bigbird_where_it_would_turn_its_sparse_attention_off() -> None:
    torch.manual_seed(0)
    config = BigBirdConfig(
        vocab_size=tiny.VOCABULARY,
        intermediate_size=64,
        block_size=4,
        num_random_blocks=1,
        max_position_embeddings=128,
        initializer_range=0.5,
        pad_token_id=1,
        sep_token_id=2,
        **tiny.SIZES,
    )
    wrap = partial(wrap_model, inputs=TWO)
    with refused("answers the same text differently after others"):
        prove(BigBirdForSequenceClassification(config).eval(), wrap, MAKE, (64,))
    found = prove(BigBirdForSequenceClassification(config).eval(), wrap, MAKE, (28,))
    assert found.claim == Claim(dynamic_batch=True, dynamic_length=True)
