"""What follows the transformer of a sentence encoder: pooling, Dense, Normalize, truncation.

Source: sentence_transformers' Pooling, Dense, Normalize and SentenceTransformer.encode, which cuts
vectors after all modules, and makes them of length 1 again only where it is asked to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.modeling_utils import load_state_dict

from torchscript_bundle.export.checkpoint import check_weights
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.pooling import Normalize, SentenceHead, Truncate
from torchscript_bundle.export.sentence_folder import Module, read_model_config, read_modules
from torchscript_bundle.export.source import Source
from torchscript_bundle.serving.modes.mode_options import Pooling

#: Names of the poolings in new and old files of sentence-transformers.
OURS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
OLD_KEY = "pooling_mode_"
OLD_NAMES = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "lasttoken"}
#: What a Dense may apply, by the last part of the name in its config. No name is ever imported.
ACTIVATIONS: dict[str, type[torch.nn.Module]] = {
    each.__name__: each
    for each in (
        *(torch.nn.Identity, torch.nn.Tanh, torch.nn.ReLU, torch.nn.GELU, torch.nn.Sigmoid),
        *(torch.nn.SiLU, torch.nn.ELU, torch.nn.SELU, torch.nn.LeakyReLU, torch.nn.Mish),
        *(torch.nn.Softplus, torch.nn.Softsign, torch.nn.Hardtanh, torch.nn.ReLU6),
    )
}
PACKAGES = ("torch.nn", "torch.nn.modules.activation", "torch.nn.modules.linear")
#: Keys of a module that may name the vector of the whole text alone.
PLACES = ("module_input_name", "module_output_name")


class Dense(torch.nn.Module):
    """A linear layer with an activation: `[batch, in]` -> `[batch, out]`."""

    def __init__(
        self,
        linear: torch.nn.Linear,
        activation: torch.nn.Module,
        residual: torch.nn.Module | None,
    ) -> None:
        super().__init__()
        self.linear, self.activation, self.residual = linear, activation, residual

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.activation(self.linear(vector))
        return output if self.residual is None else output + self.residual(vector)


@dataclass(frozen=True)
class Encoder:
    """How a text's vector is made of its tokens.

    Attributes:
        pooling: from the vectors of tokens to one.
        layers: the layers after it, in order.
        normalized: whether the vectors have the length 1.
        notes: sentences about vectors that differ from the model's own.
    """

    pooling: Pooling
    layers: tuple[torch.nn.Module, ...]
    normalized: bool
    notes: tuple[str, ...]

    def head(self, *further: torch.nn.Module) -> SentenceHead:
        """Return the layers as one module, with further ones at the end."""
        return SentenceHead(self.pooling, [*self.layers, *further])


def read_encoder(source: Source, config: SetupConfig) -> Encoder:
    """Read what a folder says, and the config's changes of it."""
    modules = read_modules(source)
    _check_steps(source, modules)
    notes: list[str] = []
    pooling = _pooling(source, config, modules, notes)
    steps = modules[2:]
    layers = [_layer(source, config, step) for step in steps]
    normalized = bool(steps) and steps[-1].kind == "Normalize"
    wanted = config.normalize_embeddings
    if wanted is not None and modules and wanted != normalized:
        own = str(normalized).lower()
        notes.append(_differs(source, "normalize_embeddings", str(wanted).lower(), own))
    if normalized and wanted is False:
        del layers[-1]
        normalized = False
    size = config.truncate_dim or read_model_config(source).get("truncate_dim")
    if size is not None:
        layers.append(Truncate(_checked(source, layers, size)))
        if normalized and wanted is None:
            notes.append(
                f"vectors of {source.name} are cut to {size} numbers after they were normalised, "
                "as sentence-transformers does, so their length is not 1; set "
                '"normalize_embeddings": true for that'
            )
        normalized = False
    if wanted and not normalized:
        layers.append(Normalize())
    return Encoder(pooling, tuple(layers), bool(wanted or normalized), tuple(notes))


def _check_steps(source: Source, modules: Sequence[Module]) -> None:
    """Refuse other modules than Transformer and Pooling and, after them, Dense and Normalize."""
    kinds = [module.kind for module in modules]
    if kinds and (kinds[:2] != ["Transformer", "Pooling"] or {*kinds[2:]} - {"Dense", "Normalize"}):
        raise ExportError(
            f"{source.name} has the sentence-transformers modules {', '.join(kinds)}; exported are "
            "Transformer, Pooling and, after them, Dense and Normalize: choose a model without "
            "others"
        )
    for module in modules[2:]:
        if {module.config.get(key) for key in PLACES} - {None, "sentence_embedding"}:
            raise ExportError(
                f"{source.name} has a {module.kind} of something else than the text's vector; "
                "choose another model"
            )


def _pooling(
    source: Source, config: SetupConfig, modules: Sequence[Module], notes: list[str]
) -> Pooling:
    """Return the config's pooling, else the folder's, else the mean."""
    named = _named_poolings(modules[1].config) if modules else ("mean",)
    own = OURS.get(named[0]) if len(named) == 1 else None
    if config.pooling is None and own is None:
        raise ExportError(
            f"{source.name} is pooled by {' and '.join(named)}; exported are {', '.join(OURS)}, "
            "one at a time: choose another model"
        )
    if config.pooling is not None and modules and config.pooling != own:
        notes.append(_differs(source, "pooling", config.pooling, " and ".join(named)))
    return config.pooling or own or "mean"


def _named_poolings(pooling: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a Pooling module's poolings, as sentence_transformers' Pooling.load_config does."""
    said = pooling.get("pooling_mode")
    if said is None:
        old = [key.removeprefix(OLD_KEY) for key in pooling if key.startswith(OLD_KEY)]
        active = [name for name in old if pooling[OLD_KEY + name]]
        return tuple(OLD_NAMES.get(name, name) for name in active) or ("mean",)
    return tuple(map(str, said)) if isinstance(said, list) else (str(said),)


def _differs(source: Source, key: str, wanted: str, own: str) -> str:
    return (
        f"{key} {wanted} is applied, {source.name} itself says {own}: vectors differ from the "
        "model's own"
    )


def _layer(source: Source, config: SetupConfig, step: Module) -> torch.nn.Module:
    if step.kind == "Normalize":
        return Normalize()
    folder = source.folder / step.path
    check_weights(folder, config, f"the {step.path} of {source.name}")
    activation = _activation(source, step.config)
    files = (folder / "model.safetensors", folder / "pytorch_model.bin")
    try:
        return _dense(load_state_dict(next(filter(Path.is_file, files))), step.config, activation)
    except Exception as error:  # libraries read a file here, each with errors of its own
        raise ExportError(
            f"the {step.path} of {source.name} cannot be read ({one_line(error)}); save the model "
            "again with sentence-transformers"
        ) from error


def _dense(
    weights: Mapping[str, torch.Tensor], config: Mapping[str, Any], activation: torch.nn.Module
) -> Dense:
    """Build a Dense of the weights in its file; ValueError where its config says otherwise."""
    given = {name: tensor.float() for name, tensor in weights.items()}
    linear = _linear(given["linear.weight"], given.pop("linear.bias", None))
    says = {
        "in_features": linear.in_features,
        "out_features": linear.out_features,
        "bias": linear.bias is not None,
    }
    for key, value in says.items():
        if config.get(key, value) != value:
            raise ValueError(f"{key} is {config[key]} in its config.json, {value} in its weights")
    residual: torch.nn.Module | None = None
    if config.get("use_residual"):
        same = linear.in_features == linear.out_features
        residual = torch.nn.Identity() if same else _linear(given["residual.weight"], None)
    return Dense(linear, activation, residual)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> torch.nn.Linear:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    state = {"weight": weight, **({} if bias is None else {"bias": bias})}
    linear.load_state_dict(state)
    return linear


def _activation(source: Source, config: Mapping[str, Any]) -> torch.nn.Module:
    path = str(config.get("activation_function", "torch.nn.Tanh"))
    package, _, name = path.rpartition(".")
    if package not in PACKAGES or name not in ACTIVATIONS:
        raise ExportError(
            f"a Dense of {source.name} has the activation function {path}; exported are torch's "
            f"{', '.join(ACTIVATIONS)}: choose another model"
        )
    return ACTIVATIONS[name]()


def _checked(source: Source, layers: Sequence[torch.nn.Module], size: object) -> int:
    """Return `truncate_dim`, which must not be more than the vectors have."""
    sizes = [layer.linear.out_features for layer in layers if isinstance(layer, Dense)]
    most = sizes[-1] if sizes else getattr(source.model.config, "hidden_size", None)
    if type(size) is not int or size < 1 or (most is not None and size > most):
        raise ExportError(
            f"truncate_dim is {size!r}, and the vectors of {source.name} have {most} numbers; set "
            "truncate_dim in setup_config.json to a number from 1 to that"
        )
    return size
