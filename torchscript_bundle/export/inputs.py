"""Inputs for tracing and proving: random tokens in the special tokens of a real text."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.tokenizer_file import special_ids
from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.jit.verify import Shape

SEED = 0


@dataclass(frozen=True)
class Frame:
    """The special tokens before, between and after the texts of a row, as ids and types.

    `types` are the texts' token types. `last_special` ends a text, or is another special token.
    `spelled` are ids that a text can hold and random words do not: other special tokens, and the
    last of the vocabulary.
    """

    before: tuple[tuple[int, int], ...]
    between: tuple[tuple[int, int], ...]
    after: tuple[tuple[int, int], ...]
    types: tuple[int, ...]
    last_special: int
    spelled: tuple[int, ...]

    @property
    def size(self) -> int:
        """Special tokens in a row."""
        return len(self.before) + len(self.between) + len(self.after)


class InputMaker:
    """Makes the arguments of a wrapped model at any shape; the same shape gives the same ones.

    `inputs` names the arguments in order; with `pairs` a row holds two texts. Each row holds one to
    three tokens of the id `holding`, if given.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        inputs: tuple[str, ...],
        device: torch.device,
        *,
        pairs: bool = False,
        holding: int | None = None,
    ) -> None:
        self._holding = holding
        self._tokenizer = tokenizer
        self._inputs = inputs
        self._device = device
        special = set(tokenizer.all_special_ids)
        ordinary = [index for index in tokenizer.get_vocab().values() if index not in special]
        self._ordinary = torch.tensor(sorted(ordinary))
        self._frame = _frame(tokenizer, pairs)
        self.pairs = pairs

    def __call__(self, shape: Shape) -> Tensors:
        """Return int64 `[batch, length]` each; padded rows have different lengths."""
        seed = SEED + 1000 * shape.length + 2 * shape.batch + shape.padded
        generator = torch.Generator().manual_seed(seed)
        columns: dict[str, list[list[int]]] = {name: [] for name in self._inputs}
        for row in range(shape.batch):
            gap = self._gap(shape, row) if shape.padded else 0
            special = row + 1 if shape.spelled else 0
            body = self._body(shape.length - gap, special, held=row % 3 + 1, generator=generator)
            for name, values in self._row(shape.length, body).items():
                if name in columns:
                    columns[name].append(values)
        return tuple(torch.tensor(columns[name], device=self._device) for name in self._inputs)

    @property
    def shortest(self) -> int:
        """Tokens of a row without text: a tokenizer may drop control characters."""
        return max(1, self._frame.size + (self._holding is not None))

    @property
    def highest_type(self) -> int:
        """The highest token type of rows and padding; 0 where the model takes no types."""
        if "token_type_ids" not in self._inputs:
            return 0
        frame = self._frame
        framing = [kind for _, kind in (*frame.before, *frame.between, *frame.after)]
        return max(self._tokenizer.pad_token_type_id, *frame.types, *framing)

    def without_types(self, inputs: Tensors) -> Tensors:
        """Return the same rows with token type 0 everywhere."""
        pairs = zip(self._inputs, inputs, strict=True)
        return tuple(torch.zeros_like(t) if name == "token_type_ids" else t for name, t in pairs)

    def _gap(self, shape: Shape, row: int) -> int:
        """Return the padding of a row: half to none of it; in large batches nearly all to none."""
        if shape.batch > 2 and row == 0:
            return max(0, shape.length - self.shortest)
        if shape.batch > 2 and row == shape.batch - 1:
            return 0
        return shape.length * (shape.batch - row) // (2 * shape.batch)

    def _body(
        self, length: int, special: int, *, held: int, generator: torch.Generator
    ) -> list[int]:
        """Return the ids of the text in a row of `length` tokens, special ones among them."""
        frame = self._frame
        inner = max(0, length - frame.size)
        picks = torch.randint(len(self._ordinary), (inner,), generator=generator)
        body: list[int] = self._ordinary[picks].tolist()
        if special:
            # The last token stays ordinary, so that no two special ones meet at the end.
            spelled = [*[frame.last_special] * special, *frame.spelled][: max(0, inner - 1)]
            body[: len(spelled)] = spelled
        if self._holding is not None and body:
            for at in range(held):
                body[(2 * at + 1) * inner // (2 * held)] = self._holding
        return body

    def _row(self, length: int, body: list[int]) -> dict[str, list[int]]:
        frame, tokenizer = self._frame, self._tokenizer
        inner = len(body)
        cut = max(1, inner // 3) if len(frame.types) == 2 else inner
        first = [(index, frame.types[0]) for index in body[:cut]]
        second = [(index, frame.types[-1]) for index in body[cut:]]
        row = [*frame.before, *first, *frame.between, *second, *frame.after][:length]
        padding = [(tokenizer.pad_token_id, tokenizer.pad_token_type_id)] * (length - len(row))
        mask = [1] * len(row)
        empty = [0] * len(padding)
        left = tokenizer.padding_side == "left"
        prompt = len(row) // 4
        pooled = [0] * prompt + [1] * (len(row) - prompt)
        pairs = padding + row if left else row + padding
        return {
            "input_ids": [index for index, _ in pairs],
            "attention_mask": empty + mask if left else mask + empty,
            "token_type_ids": [kind for _, kind in pairs],
            "pooling_mask": empty + pooled if left else pooled + empty,
        }

    def unpad(self, output: torch.Tensor, length: int) -> torch.Tensor:
        """Drop the padding of an output `[batch, padded length, ...]`."""
        left = self._tokenizer.padding_side == "left"
        return output[:, -length:] if left else output[:, :length]

    def pad(self, inputs: Tensors, length: int) -> Tensors:
        """Pad rows to `length` as the tokenizer does."""
        tokenizer = self._tokenizer
        fills = {
            "input_ids": tokenizer.pad_token_id,
            "attention_mask": 0,
            "pooling_mask": 0,
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        gap = length - inputs[0].shape[1]
        sides = (gap, 0) if tokenizer.padding_side == "left" else (0, gap)
        pairs = zip(self._inputs, inputs, strict=True)
        return tuple(torch.nn.functional.pad(t, sides, value=fills[name]) for name, t in pairs)


def input_names(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the arguments of `forward`; token types where both tokenizer and model have them."""
    takes = inspect.signature(model.forward).parameters
    typed = "token_type_ids" in tokenizer.model_input_names and "token_type_ids" in takes
    return ("input_ids", "attention_mask", *(("token_type_ids",) if typed else ()))


def _frame(tokenizer: PreTrainedTokenizerBase, pairs: bool) -> Frame:
    """Read the frame off an encoded word, without padding; ExportError if it has no token."""
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_padding()
    backend.no_truncation()
    encoding = backend.encode("a", "a" if pairs else None)
    tokens = tuple(zip(encoding.ids, encoding.type_ids, strict=True))
    owners = encoding.sequence_ids  # 0 or 1 for a token of that text, None for a special one
    if set(range(1 + pairs)) - set(owners):
        raise ExportError("the tokenizer gives no token for a word; save it again")
    starts = [owners.index(text) for text in range(1 + pairs)]
    ends = [len(owners) - owners[::-1].index(text) for text in range(1 + pairs)]
    after = tokens[ends[-1] :]
    closing = [tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id]
    last_special = after[-1][0] if after else next(i for i in closing if i is not None)
    others = {*special_ids(tokenizer).values(), max(tokenizer.get_vocab().values())}
    return Frame(
        before=tokens[: starts[0]],
        between=tokens[ends[0] : starts[-1]],
        after=after,
        types=tuple(tokens[start][1] for start in starts),
        last_special=last_special,
        spelled=tuple(sorted(others - {last_special})),
    )
