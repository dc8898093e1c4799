"""Temperature, for each row its own. TorchScript reads the annotations: not postponed."""

import torch
from torch import Tensor


class Temperature(torch.nn.Module):
    """Flattens scores (above 1) or sharpens them (below 1)."""

    def forward(self, scores: Tensor, temperature: Tensor) -> Tensor:
        """The scores divided by the temperature.

        Args:
            scores: float `[batch, vocabulary]`.
            temperature: float64 `[batch]`, at least `options.LEAST_TEMPERATURE`, so that the
                quotients stay finite; 1 changes nothing.
        """
        return scores / temperature.to(scores.dtype).unsqueeze(1)
