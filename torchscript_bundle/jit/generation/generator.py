"""Text generation around a traced model. TorchScript reads the annotations: not postponed."""

from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.jit.generation import cache as caches
from torchscript_bundle.jit.generation.options import check_options, draw_numbers
from torchscript_bundle.jit.generation.sampler import Sampler


class Generator(torch.nn.Module):
    """The methods and attributes of the saved module; README.md describes their use.

    Args:
        core: traced. `prefill(input_ids, attention_mask)` returns the logits of the last token, the
            two masks of a cache (see `cache`), and its keys and values without room to grow.
            `step(tokens, mask, source_mask, buffers)` reads one token of each row, writes its keys
            and values to the last place of the mask, and returns its logits.
        growing: number of growing buffers.
        max_length, max_source_length: the most tokens of a row of the decoder, and of the encoder.
        pad_id: fills up rows that end before others.
        start_id: the first token that the decoder reads; -1 without an encoder.
        first_id: forced first token of every answer; -1 for none.
        last_id: forced last token of an answer cut at `max_new_tokens`; -1 for none.
    """

    eos_ids: list[int]

    def __init__(
        self,
        core: torch.nn.Module,
        *,
        growing: int,
        vocabulary: int,
        max_length: int,
        max_source_length: int,
        eos_ids: list[int],
        pad_id: int,
        start_id: int,
        first_id: int,
        last_id: int,
    ) -> None:
        super().__init__()
        self.core: Any = core
        self.sampler = Sampler()
        self.growing = growing
        self.vocabulary = vocabulary
        self.max_length = max_length
        self.max_source_length = max_source_length
        self.eos_ids = eos_ids
        self.pad_id = pad_id
        self.start_id = start_id
        self.first_id = first_id
        self.last_id = last_id

    @torch.jit.export
    def prefill(
        self, input_ids: Tensor, attention_mask: Tensor, room: int = 64
    ) -> tuple[Tensor, list[Tensor]]:
        """Read the texts; return logits, float `[batch, vocabulary]`, and a cache.

        Args:
            input_ids: int64 `[batch, length]`, padded on the left, for an encoder on the right.
            attention_mask: int64 `[batch, length]`, 1 for a token; at least one in each row.
            room: number of new tokens to reserve memory for; more are no error.
        """
        self.check_texts(attention_mask)
        logits, mask, source_mask, tensors = self.core.prefill(input_ids, attention_mask)
        return logits, self.reserve(mask, source_mask, tensors, room)

    @torch.jit.export
    def check_texts(self, attention_mask: Tensor) -> None:
        """Raise ValueError for a text that is longer than the model takes."""
        most = self.max_length if self.start_id < 0 else self.max_source_length
        longest = int(attention_mask.sum(1).max())
        if longest > most:
            raise ValueError(f"a text of {longest} tokens, where the model takes {most}")

    @torch.jit.export
    def reserve(
        self, mask: Tensor, source_mask: Tensor, tensors: list[Tensor], room: int
    ) -> list[Tensor]:
        """Return a cache with `room` for more tokens, of what `core.prefill` returned."""
        cache = [mask, source_mask]
        for index, tensor in enumerate(tensors):
            if index < self.growing:
                used = tensor.size(2)
                tensor = caches.enlarged(tensor, tensor.size(0), used, used + room)
            cache.append(tensor)
        return cache

    @torch.jit.export
    def step(self, tokens: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Read one token of each row, int64 `[batch]`; return the next logits and the cache.

        The given cache is used up.
        """
        cache = self.extend(tokens, cache)
        logits: Tensor = self.core.step(tokens.unsqueeze(1), cache[0], cache[1], cache[2:])
        return logits, cache

    @torch.jit.export
    def extend(self, tokens: Tensor, cache: list[Tensor]) -> list[Tensor]:
        """Return the cache with a place for one more token of each row, for `core.step`."""
        mask = torch.cat([cache[0], torch.ones_like(tokens).unsqueeze(1)], dim=1)
        rows, length = mask.size(0), mask.size(1)
        if int(mask.sum(1).max()) > self.max_length:
            raise ValueError(f"a row has {self.max_length} tokens already, all the model takes")
        grown = [mask, cache[1]]
        for index, buffer in enumerate(cache[2:]):
            if index < self.growing and buffer.size(2) < length:
                room = caches.more_room(length)
                buffer = caches.enlarged(buffer, rows, length - 1, room)
            grown.append(buffer)
        return grown

    @torch.jit.export
    def select_rows(self, cache: list[Tensor], rows: Tensor) -> list[Tensor]:
        """Return the cache of `rows`, int64 `[n]`, in that order; the given one is used up."""
        return caches.select_rows(cache, rows, self.growing)

    @torch.jit.export
    def merge(self, first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
        """Return one cache with the rows of both; the given ones are used up."""
        return caches.merge(first, second, self.growing)

    @torch.jit.export
    def rows_left(self, finished: Tensor) -> Tensor:
        """Return the unfinished rows, int64 `[n]`, in an order that `select_rows` does fast."""
        return caches.rows_left(finished)

    @torch.jit.export
    def seen_tokens(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return bool `[batch, vocabulary]`: a row's tokens before its answer, for the penalty."""
        rows = input_ids.size(0)
        if self.start_id >= 0:
            seen = torch.zeros([rows, self.vocabulary], dtype=torch.bool, device=input_ids.device)
            seen[:, self.start_id] = True
            return seen
        counts = torch.zeros([rows, self.vocabulary], dtype=torch.int64, device=input_ids.device)
        return counts.scatter_add_(1, input_ids, attention_mask) > 0

    @torch.jit.export
    def sample(
        self,
        logits: Tensor,
        seen: Tensor,
        do_sample: Tensor,
        temperature: Tensor,
        top_k: Tensor,
        top_p: Tensor,
        repetition_penalty: Tensor,
        draws: Tensor,
    ) -> Tensor:
        """Return each row's next token, drawn or the most likely one; shapes as in `Sampler`."""
        tokens: Tensor = self.sampler(
            logits, seen, do_sample, temperature, top_k, top_p, repetition_penalty, draws
        )
        return tokens

    @torch.jit.export
    def generate(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        max_new_tokens: int = 64,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seeds: list[int] | None = None,
        eos_ids: list[int] | None = None,
    ) -> Tensor:
        """Return the answers without their texts, int64 `[batch, new_tokens]`.

        Rows that have ended are not computed any more.

        Args:
            input_ids, attention_mask: see `prefill`.
            max_new_tokens: the most tokens of an answer.
            do_sample: false takes the best token each time.
            temperature, top_k, top_p, repetition_penalty: as in transformers, and a `temperature`
                of 0 takes the best token; a `top_k` of 0 keeps all tokens.
            seeds: one for each row, whose answer is then the same alone or in any batch; None for
                torch's global generator.
            eos_ids: replace the model's.
        """
        check_options(max_new_tokens, temperature, top_k, top_p, repetition_penalty)
        begins = int(attention_mask.sum(1).max()) if self.start_id < 0 else 1
        if begins + max_new_tokens > self.max_length:
            raise ValueError(
                f"{begins} tokens and {max_new_tokens} new ones, where the model takes "
                f"{self.max_length} together"
            )
        ends = torch.tensor(self.eos_ids if eos_ids is None else eos_ids, dtype=torch.int64)
        draws = draw_numbers(input_ids.size(0), max_new_tokens, seeds)
        same = torch.ones([draws.size(0)], dtype=torch.float64, device=input_ids.device)
        return self._write(
            self.prefill(input_ids, attention_mask, max_new_tokens),
            self.seen_tokens(input_ids, attention_mask),
            (same * int(do_sample)).to(torch.bool),
            same * temperature,
            (same * top_k).long(),
            same * top_p,
            same * repetition_penalty,
            draws,
            ends,
        )

    def _write(
        self,
        start: tuple[Tensor, list[Tensor]],
        seen: Tensor,
        do_sample: Tensor,
        temperature: Tensor,
        top_k: Tensor,
        top_p: Tensor,
        repetition_penalty: Tensor,
        draws: Tensor,
        ends: Tensor,
    ) -> Tensor:
        """Run the loop; `draws` has a column for each new token, and all rows equal options."""
        logits, cache = start
        device, most = logits.device, draws.size(1)
        rows = torch.arange(logits.size(0), device=device)
        answers = torch.full([logits.size(0), most], self.pad_id, device=device)
        draws, ends = draws.to(device), ends.to(device)
        written = 0
        going = True
        while going:
            n = rows.size(0)
            if self.first_id >= 0 and written == 0:
                tokens = torch.full_like(rows, self.first_id)
                seen[:, self.first_id] = True
            elif self.last_id >= 0 and written == most - 1:
                tokens = torch.full_like(rows, self.last_id)
            else:
                tokens = self.sample(
                    logits,
                    seen,
                    do_sample[:n],
                    temperature[:n],
                    top_k[:n],
                    top_p[:n],
                    repetition_penalty[:n],
                    draws[rows, written],
                )
            answers[rows, written] = tokens
            written += 1
            finished = torch.isin(tokens, ends)
            going = written < most and not bool(finished.all())
            if going and bool(finished.any()):
                left = self.rows_left(finished)
                rows, tokens, seen = rows[left], tokens[left], seen[left]
                cache = self.select_rows(cache, left)
            if going:
                logits, cache = self.step(tokens, cache)
        return answers[:, :written]
