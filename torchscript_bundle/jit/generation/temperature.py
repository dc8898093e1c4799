"""Temperature by row. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor


class Temperature(torch.nn.Module):
    """Flattens scores (above 1) or sharpens them (below 1)."""

    def forward(self, scores: Tensor, temperature: Tensor) -> Tensor:
        """Divide scores `[batch, vocabulary]` by `[batch]`, at least `LEAST_TEMPERATURE`."""
        return scores / temperature.to(scores.dtype).unsqueeze(1)
