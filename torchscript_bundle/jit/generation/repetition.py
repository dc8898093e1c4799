"""Repetition penalty by row. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor


class RepetitionPenalty(torch.nn.Module):
    """Makes seen tokens less likely. Source: https://arxiv.org/abs/1909.05858."""

    def forward(self, scores: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
        """Divide positive scores of seen tokens by the penalty, and multiply negative ones.

        Args:
            scores: float `[batch, vocabulary]`.
            seen: bool `[batch, vocabulary]`, the tokens that each row has already.
            penalty: float64 `[batch]`, from 0.01 to 100; 1 changes nothing.
        """
        if bool((penalty == 1).all()):
            return scores
        rows, tokens = seen.nonzero().unbind(1)  # few of the vocabulary
        found, factor = scores[rows, tokens], penalty.to(scores.dtype)[rows]
        penalised = torch.where(found < 0, found * factor, found / factor)
        return scores.index_put((rows, tokens), penalised)
