"""Inverse-CDF sampling by row. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor


class Draw(torch.nn.Module):
    """Turns a uniform random number into a token, so that each row can have its own generator."""

    def forward(self, scores: Tensor, draws: Tensor) -> Tensor:
        """Return int64 `[batch]`: the first token whose cumulative probability exceeds the draw.

        Args:
            scores: float `[batch, vocabulary]`, minus infinity for tokens that are out.
            draws: float64 `[batch]`, uniform in [0, 1).
        """
        shares = scores.softmax(1).to(torch.float64).cumsum(1)
        total = shares[:, -1]
        # The product may round up to the total, beyond the last token with a probability.
        target = torch.minimum(draws * total, torch.nextafter(total, torch.zeros_like(total)))
        return torch.searchsorted(shares, target.unsqueeze(1), right=True).squeeze(1)
