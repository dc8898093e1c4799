"""JetMoE's experts, of the MLP and the attention: token counts per expert stay tensors."""

from typing import Any

import torch

from torchscript_bundle.jit.modes import compile_mode


class Gating(torch.nn.Module):
    """`JetMoeTopKGating`, whose `.tolist()` a trace would keep as constants."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.layer = original.layer
        self.num_experts = original.num_experts
        self.top_k = original.top_k

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Choose `top_k` experts for each token of `[tokens, input_size]`.

        A choice is one token with one of its experts. Return the choices ordered by expert, the
        token and the weight of each, `[tokens * top_k]`; the choices of each expert,
        `[num_experts]`, where the original has a list; the router's logits,
        `[tokens, num_experts]`.
        """
        logits = self.layer(hidden_states).float()
        top_logits, top_experts = logits.topk(self.top_k, dim=1)
        gates = torch.softmax(top_logits, dim=1).type_as(hidden_states).flatten()
        experts, order = top_experts.flatten().sort(0)
        sizes = torch.bincount(experts, minlength=self.num_experts)
        return order, order.div(self.top_k, rounding_mode="trunc"), gates[order], sizes, logits


@compile_mode("script")
class ParallelExperts(torch.nn.Module):
    """`JetMoeParallelExperts`, which splits its input by the counts of `Gating`."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.weight = original.weight

    def forward(self, inputs: torch.Tensor, expert_size: torch.Tensor) -> torch.Tensor:
        """Apply experts to their parts: `[choices, input_size]` -> `[choices, output_size]`.

        `inputs` are ordered by expert; `expert_size` counts the rows of each, possibly 0,
        `[num_experts]`.
        """
        sizes: list[int] = expert_size.tolist()
        outputs: list[torch.Tensor] = []
        for expert, part in enumerate(inputs.split(sizes, dim=0)):
            outputs.append(torch.nn.functional.linear(part, self.weight[expert]))
        return torch.cat(outputs, dim=0)
