"""Draws a token for each row. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor


class Draw(torch.nn.Module):
    """Turns a number drawn at random into a token, so that each row can have its own randomness."""

    def forward(self, scores: Tensor, draws: Tensor) -> Tensor:
        """int64 `[batch]`: the token in whose share of the probabilities, added up, the draw falls.

        Args:
            scores: float `[batch, vocabulary]`; minus infinity for a token that is out.
            draws: float64 `[batch]`, at least 0 and below 1, uniformly distributed.
        """
        shares = scores.softmax(1).to(torch.float64).cumsum(1)
        total = shares[:, -1]
        # The product may round up to the total, beyond the last token that has a share.
        target = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
        return torch.searchsorted(shares, target.unsqueeze(1), right=True).squeeze(1)
