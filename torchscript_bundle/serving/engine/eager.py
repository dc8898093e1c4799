"""`save_mode: "pretrained"`: a model that transformers builds and runs eagerly.

Only this file needs transformers, and imports it when such an artifact is loaded.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.serving.artifact import PRETRAINED_FOLDER, REMAKE, Bundle
from torchscript_bundle.serving.errors import ArtifactError

logger = logging.getLogger(__name__)


class EagerModel:
    """A transformers model with the interface of an artifact's ScriptModule."""

    def __init__(self, model: torch.nn.Module, bundle: Bundle) -> None:
        self._model = model
        self._inputs = bundle.inputs
        self._outputs = tuple(output.name for output in bundle.outputs)
        self._fixed: dict[str, Any] = {"return_dict": True}
        if "use_cache" in inspect.signature(model.forward).parameters:
            self._fixed["use_cache"] = False

    def __call__(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the outputs of int64 `[batch, length]` tensors in the order of `Bundle.inputs`."""
        named = dict(zip(self._inputs, tensors, strict=True))
        output = self._model(**named, **self._fixed)
        return tuple(getattr(output, name) for name in self._outputs)

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Return the model's weights."""
        return self._model.parameters()

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed int64 `[batch, length]` as float `[batch, length, dim]`."""
        embeddings: torch.Tensor = self._embeddings()(input_ids)
        return embeddings

    def forward_embeddings(
        self, embeddings: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the outputs of embedded texts, with their ids and masks."""
        return self._given(self._embeddings(), embeddings, tensors)

    def example_embed(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Return what the model embeds of texts, float `[batch, length, dim]`."""
        outputs: list[torch.Tensor] = []
        layer = example_layer(self._model)
        handle = layer.register_forward_hook(lambda *call: outputs.append(call[-1]))
        try:
            self(*tensors)
        finally:
            handle.remove()
        [embedded] = outputs
        return embedded

    def example_forward(
        self, embeddings: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return the outputs of what `example_embed` returns, with the ids and masks."""
        return self._given(example_layer(self._model), embeddings, tensors)

    def _given(
        self, layer: torch.nn.Module, outputs: torch.Tensor, tensors: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, ...]:
        handle = layer.register_forward_hook(lambda *_: outputs)
        try:
            return self(*tensors)
        finally:
            handle.remove()

    def _embeddings(self) -> Any:
        model: Any = self._model
        return model.get_input_embeddings()


def example_layer(model: Any) -> torch.nn.Module:
    """Return the layer at which TorchServe's example attributed: all that a model embeds.

    A model without it has the embeddings of its tokens alone.
    """
    base = getattr(model, model.base_model_prefix, model)
    layer = getattr(base, "embeddings", None)
    tokens: torch.nn.Module = model.get_input_embeddings()
    return layer if isinstance(layer, torch.nn.Module) else tokens


def load(folder: Path, bundle: Bundle, device: torch.device) -> EagerModel:
    """Build the artifact's model in float32, from its own files alone."""
    place = folder / PRETRAINED_FOLDER
    _check_no_others(place, folder, bundle)
    transformers = _import_transformers(bundle)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    name = str(bundle.save_options.get("auto_class"))
    if not name.startswith("AutoModel") or not hasattr(transformers, name):
        raise ArtifactError(f"bundle.json: save_options.auto_class is {name!r}; {REMAKE}")
    try:
        model = getattr(transformers, name).from_pretrained(
            str(place),
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=bundle.save_options.get("trust_remote_code") is True,
        )
    except Exception as error:  # many libraries read files here, and the model's own code runs
        raise ArtifactError(
            f"{place} cannot be loaded by transformers {transformers.__version__} "
            f"(made by {_made_by(bundle)}): {error}"
        ) from error
    return EagerModel(model.eval().to(device), bundle)


def _check_no_others(place: Path, folder: Path, bundle: Bundle) -> None:
    """Refuse a file that `bundle.json` does not know: transformers would read it all the same."""
    found = {path.relative_to(folder).as_posix() for path in place.rglob("*") if path.is_file()}
    for name in sorted(found - set(bundle.sha256)):
        raise ArtifactError(f"{folder / name} is not of this artifact; {REMAKE}, then the archive")


def _import_transformers(bundle: Bundle) -> Any:
    """Import transformers if its major version is the one that made the artifact."""
    made_by = _made_by(bundle)
    install = f"install it: {sys.executable} -m pip install transformers=={made_by}"
    needs = f'this archive (save_mode "pretrained") needs transformers {made_by}'
    try:
        import transformers
    except ImportError as error:
        raise ArtifactError(
            f"{needs}, which cannot be imported here ({error}); {install}"
        ) from error
    installed: str = transformers.__version__
    if installed.split(".")[0] != made_by.split(".")[0]:
        raise ArtifactError(f"{needs}, here is {installed}; {install}")
    if installed != made_by:
        logger.warning("proven with transformers %s, served with %s", made_by, installed)
    return transformers


def _made_by(bundle: Bundle) -> str:
    return bundle.versions.get("transformers", "5")
