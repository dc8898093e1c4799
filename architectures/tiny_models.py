"""A tiny random model of an architecture, made from its own config class."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

from architectures.overrides import OVERRIDES
from architectures.sizes import SIZES

#: Spread of the noise added to each weight, so that answers depend on everything that is read.
NOISE = 0.15
#: Fields that list a kind of layer for each layer.
KINDS = ("layer_types", "mlp_layer_types", "indexer_types")


def tiny_model(model_type: str, auto_class: str) -> Any:
    """A random float32 model in eval mode, the same at every call.

    Args:
        model_type: key of transformers' config mapping.
        auto_class: name of the Auto class whose head it gets.

    Raises:
        Exception: whatever the architecture raises at these sizes.
    """
    config = tiny_config(model_type)
    if auto_class == "AutoModelForCausalLM":
        config.is_decoder = True
    torch.manual_seed(0)
    model = getattr(transformers, auto_class).from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                parameter.add_(torch.randn_like(parameter) * NOISE)
    return model


def tiny_config(model_type: str) -> PreTrainedConfig:
    """The architecture's own config at tiny sizes, nested configs included."""
    return _tiny(CONFIG_MAPPING[model_type], OVERRIDES.get(model_type, {}))


def _tiny(config_class: type[PreTrainedConfig], overrides: dict[str, Any]) -> PreTrainedConfig:
    names = {field.name for field in fields(config_class)}
    values = {name: value for name, value in SIZES.items() if name in names}
    if "kv_lora_rank" in names:  # latent attention has as many keys as queries
        values["num_key_value_heads"] = values["num_attention_heads"]
    values |= _one_layer_of_each_kind(config_class, names)
    nested = config_class.sub_configs or {}
    for name, nested_class in nested.items():
        mine = overrides.get(name, {})
        if nested_class is AutoConfig:
            nested_class = type(getattr(config_class(), name, None))
        if isinstance(mine, dict) and issubclass(nested_class, PreTrainedConfig):
            values[name] = _tiny(nested_class, mine)
    values |= {k: v for k, v in overrides.items() if k not in nested or k not in values}
    return config_class(**values)


def _one_layer_of_each_kind(
    config_class: type[PreTrainedConfig], names: set[str]
) -> dict[str, Any]:
    """As many layers as it takes to have each kind of layer that the default config has."""
    if "num_hidden_layers" not in names or not names & set(KINDS):
        return {}
    default = config_class()
    lists = {name: getattr(default, name) for name in KINDS if getattr(default, name, None)}
    kinds = {name: list(dict.fromkeys(values)) for name, values in lists.items()}
    depth = max(2, *(len(values) for values in kinds.values()), 0)
    filled = {name: (values * depth)[:depth] for name, values in kinds.items()}
    return {"num_hidden_layers": depth, **filled}
