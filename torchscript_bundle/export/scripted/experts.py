"""Experts that transformers runs in a Python loop over those that some token chose."""

from typing import Any

import torch

from torchscript_bundle.jit.modes import compile_mode


@compile_mode("script")
class Experts(torch.nn.Module):
    """Run each expert on its tokens. A trace of the loop would keep the experts of its example."""

    def __init__(self, num_experts: int) -> None:
        super().__init__()
        self.num_experts = num_experts

    def forward(
        self,
        hidden_states: torch.Tensor,
        top_k_index: torch.Tensor,
        top_k_weights: torch.Tensor,
    ) -> torch.Tensor:
        """Return the weighted outputs of each token's experts, shaped as `hidden_states`.

        `hidden_states` is `[..., hidden]`; `top_k_index`, int64, and `top_k_weights` are
        `[tokens, top_k]`.
        """
        tokens = hidden_states.reshape(-1, hidden_states.shape[-1])
        output = torch.zeros_like(tokens)
        for expert in range(self.num_experts):
            # In the order of the original's rows, since a matrix product rounds by position.
            choice, token = torch.where(top_k_index.t() == expert)
            if token.numel() > 0:
                weight = top_k_weights[token, choice].unsqueeze(-1)
                weighted = self.expert(expert, tokens[token]) * weight
                output.index_add_(0, token, weighted.to(output.dtype))
        return output.view_as(hidden_states)

    def expert(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        """Return the output of one expert for the tokens that chose it, `[chosen, hidden]`."""
        raise NotImplementedError


class DbrxExperts(Experts):
    """`DbrxExperts` of transformers, which stacks the weights of all experts in one matrix."""

    def __init__(self, original: Any) -> None:
        super().__init__(original.num_experts)
        self.mlp = original.mlp

    def expert(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        shape = [self.num_experts, -1, tokens.shape[-1]]
        w1 = self.mlp.w1.view(shape)[index]
        v1 = self.mlp.v1.view(shape)[index]
        w2 = self.mlp.w2.view(shape)[index]
        answer: torch.Tensor = self.mlp(tokens, w1, v1, w2)
        return answer


class LongcatFlashExperts(Experts):
    """`LongcatFlashExperts` of transformers; its last experts return the token itself."""

    def __init__(self, original: Any) -> None:
        super().__init__(original.total_experts)
        self.computing = original.num_routed_experts
        self.gate_up_proj = original.gate_up_proj
        self.down_proj = original.down_proj
        self.act_fn = original.act_fn

    def expert(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        if index >= self.computing:
            return tokens
        gate, up = torch.nn.functional.linear(tokens, self.gate_up_proj[index]).chunk(2, dim=-1)
        return torch.nn.functional.linear(self.act_fn(gate) * up, self.down_proj[index])


class PrivacyFilterExperts(Experts):
    """`OpenAIPrivacyFilterExperts` of transformers."""

    def __init__(self, original: Any) -> None:
        super().__init__(original.num_experts)
        self.gate_up_proj = original.gate_up_proj
        self.gate_up_proj_bias = original.gate_up_proj_bias
        self.down_proj = original.down_proj
        self.down_proj_bias = original.down_proj_bias
        self.alpha = float(original.alpha)
        self.limit = float(original.limit)

    def expert(self, index: int, tokens: torch.Tensor) -> torch.Tensor:
        gate_up = tokens @ self.gate_up_proj[index] + self.gate_up_proj_bias[index]
        gate, up = gate_up.chunk(2, dim=-1)
        gate = gate.clamp(max=self.limit)
        up = up.clamp(min=-self.limit, max=self.limit)
        gated = (up + 1) * (gate * torch.sigmoid(gate * self.alpha))
        answer: torch.Tensor = gated @ self.down_proj[index] + self.down_proj_bias[index]
        return answer
