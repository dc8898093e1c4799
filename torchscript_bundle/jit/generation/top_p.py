"""Top-p filtering by row. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor


def unlikely(scores: Tensor, top_p: Tensor) -> Tensor:
    """Return a mask of the least likely tokens whose total probability is at most 1 - p."""
    upwards, order = scores.sort(1)  # not stable, so that ties are broken as in transformers
    together = upwards.softmax(1).cumsum(1)
    out = together <= (1 - top_p).to(scores.dtype).unsqueeze(1)
    out[:, -1] = False
    return torch.zeros_like(out).scatter_(1, order, out)


def last_kept(scores: Tensor, top_p: Tensor, few: int) -> tuple[Tensor, Tensor]:
    """Return the least score that is kept, and whether the best `few` tokens decide it.

    They do if the border is among them, not between equal scores, and not within rounding. Sorting
    50,000 scores takes 4 ms, finding the best 512 about a tenth of it.
    """
    best = scores.topk(few, dim=1).values.to(torch.float64)
    shares = (best - scores.logsumexp(1, keepdim=True)).exp()
    before = shares.cumsum(1) - shares
    kept = (before < top_p.unsqueeze(1)).sum(1, keepdim=True).clamp(max=few - 1)
    least = best.gather(1, kept - 1).squeeze(1)
    apart = ((before - top_p.unsqueeze(1)).abs() > 1e-5).all(1)
    certain = apart & (before[:, -1] > top_p) & (least > best.gather(1, kept).squeeze(1))
    return least.to(scores.dtype), certain


class TopP(torch.nn.Module):
    """Keeps the smallest set of tokens of probability p. https://arxiv.org/abs/1904.09751."""

    def forward(self, scores: Tensor, top_p: Tensor) -> Tensor:
        """Set the least likely tokens whose total probability is at most 1 - p to minus infinity.

        Args:
            scores: float `[batch, vocabulary]`, minus infinity for tokens that are out already.
            top_p: float64 `[batch]`, above 0 and at most 1; 1 keeps all.
        """
        few = 512
        filtered = top_p < 1
        unsure = filtered
        if scores.size(1) > 4 * few:
            least, certain = last_kept(scores, top_p, few)
            least = least.masked_fill(~(filtered & certain), -float("inf"))
            scores = scores.masked_fill(scores < least.unsqueeze(1), -float("inf"))
            unsure = filtered & ~certain
        rows = unsure.nonzero().squeeze(1)
        if rows.size(0) == 0:
            return scores
        some = scores[rows]
        some = some.masked_fill(unlikely(some, top_p[rows]), -float("inf"))
        return scores.index_copy(0, rows, some)
