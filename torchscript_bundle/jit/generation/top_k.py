"""Top-k filtering by row. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor


class TopK(torch.nn.Module):
    """Keeps the k most likely tokens. Source: https://arxiv.org/abs/1805.04833."""

    def forward(self, scores: Tensor, top_k: Tensor) -> Tensor:
        """Set scores below the k-th best to minus infinity; those that equal it are kept.

        Args:
            scores: float `[batch, vocabulary]`.
            top_k: int64 `[batch]`, at least 0; 0 keeps all.
        """
        most = min(int(top_k.max()), scores.size(1)) if top_k.size(0) > 0 else 0
        if most == 0:
            return scores
        best = scores.topk(most, dim=1).values
        last = best.gather(1, (top_k.clamp(1, most) - 1).unsqueeze(1))
        below = (scores < last) & (top_k > 0).unsqueeze(1)
        return scores.masked_fill(below, -float("inf"))
