"""Inputs for tracing and proving: random tokens framed as the tokenizer frames a real text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.jit.verify import Shape

SEED = 0


@dataclass(frozen=True)
class Frame:
    """Ids and types of the special tokens before and after a text, and of a token inside it."""

    before: tuple[tuple[int, int], ...]
    after: tuple[tuple[int, int], ...]
    inner_type: int


class InputMaker:
    """Makes the arguments of a wrapped model at any shape, the same for the same shape.

    Args:
        tokenizer: gives special tokens, padding and vocabulary.
        inputs: names of the arguments, in order.
        device: where the tensors are put.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, inputs: tuple[str, ...], device: torch.device
    ) -> None:
        self._tokenizer = tokenizer
        self._inputs = inputs
        self._device = device
        special = set(tokenizer.all_special_ids)
        ordinary = [index for index in tokenizer.get_vocab().values() if index not in special]
        self._ordinary = torch.tensor(sorted(ordinary))
        self._frame = _frame(tokenizer)

    def __call__(self, shape: Shape) -> Tensors:
        """int64 `[batch, length]` each; padded rows are filled to different lengths."""
        seed = SEED + 1000 * shape.length + 2 * shape.batch + shape.padded
        generator = torch.Generator().manual_seed(seed)
        columns: dict[str, list[list[int]]] = {name: [] for name in self._inputs}
        for row in range(shape.batch):
            # From about half full to one token short, and one full row in the larger batches.
            gap = shape.length * (shape.batch - row) // (2 * shape.batch) if shape.padded else 0
            if shape.padded and shape.batch > 2 and row == shape.batch - 1:
                gap = 0
            for name, values in self._row(shape.length, gap, generator).items():
                if name in columns:
                    columns[name].append(values)
        return tuple(torch.tensor(columns[name], device=self._device) for name in self._inputs)

    def _row(self, length: int, gap: int, generator: torch.Generator) -> dict[str, list[int]]:
        frame, tokenizer = self._frame, self._tokenizer
        inner = max(1, length - gap - len(frame.before) - len(frame.after))
        picks = torch.randint(len(self._ordinary), (inner,), generator=generator)
        body = [(index, frame.inner_type) for index in self._ordinary[picks].tolist()]
        row = [*frame.before, *body, *frame.after][:length]
        padding = [(tokenizer.pad_token_id, tokenizer.pad_token_type_id)] * (length - len(row))
        mask = [1] * len(row)
        empty = [0] * len(padding)
        left = tokenizer.padding_side == "left"
        pairs = padding + row if left else row + padding
        return {
            "input_ids": [index for index, _ in pairs],
            "attention_mask": empty + mask if left else mask + empty,
            "token_type_ids": [kind for _, kind in pairs],
        }

    def pad(self, inputs: Tensors, length: int) -> Tensors:
        """The same rows, padded to `length` as the tokenizer pads."""
        tokenizer = self._tokenizer
        fills = {
            "input_ids": tokenizer.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": tokenizer.pad_token_type_id,
        }
        gap = length - inputs[0].shape[1]
        sides = (gap, 0) if tokenizer.padding_side == "left" else (0, gap)
        pairs = zip(self._inputs, inputs, strict=True)
        return tuple(torch.nn.functional.pad(t, sides, value=fills[name]) for name, t in pairs)


def _frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Reads the frame off an encoded word."""
    encoding = tokenizer.backend_tokenizer.encode("a")
    pairs = list(zip(encoding.ids, encoding.type_ids, strict=True))
    marks = encoding.special_tokens_mask
    inner = [at for at, mark in enumerate(marks) if not mark] or [len(pairs)]
    return Frame(
        before=tuple(pairs[: inner[0]]),
        after=tuple(pairs[inner[-1] + 1 :]),
        inner_type=pairs[inner[0]][1] if inner[0] < len(pairs) else 0,
    )
