"""Repetition penalty, for each row its own. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor


class RepetitionPenalty(torch.nn.Module):
    """Makes tokens less likely that a row has already. Source: https://arxiv.org/abs/1909.05858."""

    def forward(self, scores: Tensor, seen: Tensor, penalty: Tensor) -> Tensor:
        """Divides positive scores of seen tokens by the penalty, and multiplies negative ones.

        Args:
            scores: float `[batch, vocabulary]`.
            seen: bool `[batch, vocabulary]`, the tokens of each row so far.
            penalty: float64 `[batch]`, from 0.01 to 100; 1 changes nothing.
        """
        if bool((penalty == 1).all()):
            return scores
        rows, tokens = seen.nonzero().unbind(1)  # few of the vocabulary
        found, factor = scores[rows, tokens], penalty.to(scores.dtype)[rows]
        penalised = torch.where(found < 0, found * factor, found / factor)
        return scores.index_put((rows, tokens), penalised)
