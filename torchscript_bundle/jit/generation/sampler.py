"""Samples the next tokens. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor

from torchscript_bundle.jit.generation.draw import Draw
from torchscript_bundle.jit.generation.options import LEAST_TEMPERATURE
from torchscript_bundle.jit.generation.repetition import RepetitionPenalty
from torchscript_bundle.jit.generation.temperature import Temperature
from torchscript_bundle.jit.generation.top_k import TopK
from torchscript_bundle.jit.generation.top_p import TopP


class Sampler(torch.nn.Module):
    """Penalty, temperature, top-k, top-p and the draw, in transformers' order.

    A row's token depends on that row's arguments alone. Arguments with a value for each row have
    the names of the serving side's parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repetition_penalty = RepetitionPenalty()
        self.temperature = Temperature()
        self.top_k = TopK()
        self.top_p = TopP()
        self.draw = Draw()
        self.least_temperature = LEAST_TEMPERATURE

    def forward(
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
        """Return the next tokens, int64 `[batch]`, and set them in `seen`.

        Args:
            logits: float `[batch, vocabulary]`; minus infinity rules out a token.
            seen: bool `[batch, vocabulary]`, the tokens that each row has already.
            do_sample: bool `[batch]`; false takes the best token, after the penalty. So do a
                temperature below `LEAST_TEMPERATURE` and a `top_p` of 0.
            temperature, top_k, top_p, repetition_penalty: `[batch]`, see those modules.
            draws: float64 `[batch]`, in [0, 1); unused where `do_sample` is false.
        """
        scores = self.repetition_penalty(logits.float(), seen, repetition_penalty)
        tokens: Tensor = scores.argmax(1)
        drawn_from = do_sample & (temperature >= self.least_temperature) & (top_p > 0)
        rows = drawn_from.nonzero().squeeze(1)
        if rows.size(0) > 0:
            drawn = self.temperature(scores[rows], temperature[rows])
            drawn = self.top_k(drawn, top_k[rows])
            drawn = self.top_p(drawn, top_p[rows])
            tokens = tokens.index_copy(0, rows, self.draw(drawn, draws[rows]))
        seen.scatter_(1, tokens.unsqueeze(1), True)
        return tokens
