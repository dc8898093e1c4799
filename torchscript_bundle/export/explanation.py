"""The trace of a model that is explained: embeddings are a step of their own, with gradients.

captum integrates gradients from baseline embeddings to those of the text. So the file also holds
`embed(input_ids)` and `forward_embeddings(embeddings, input_ids, attention_mask, ...)`, which share
the weights of `forward`. The latter takes the ids too: decoders find a text's last token by them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.gradients import compare_gradients, gradients
from torchscript_bundle.export.hints import traceable
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.masks import masks_by_broadcasting
from torchscript_bundle.export.proof import Proof, compare_all
from torchscript_bundle.jit.compilation import trace_module
from torchscript_bundle.jit.tracing import Tensors, record_tracer_warnings
from torchscript_bundle.jit.verify import Shape
from torchscript_bundle.serving.artifact import (
    EXAMPLE_LAYER,
    TOKEN_LAYER,
    AnswerForm,
    Layer,
)
from torchscript_bundle.serving.engine.eager import example_layer

TURN_OFF = 'set "captum_explanation": false in setup_config.json, or choose another model'


class Embedded(torch.nn.Module):
    """A wrapped model that also takes texts as embeddings; made by `embedded`."""

    def __init__(self, wrapped: torch.nn.Module) -> None:
        super().__init__()
        self.wrapped = wrapped

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Embed int64 `[batch, length]` as float `[batch, length, dim]`."""
        embeddings: torch.Tensor = self._layer()(input_ids)
        return embeddings

    def _model(self) -> Any:
        models = (each for each in self.wrapped.modules() if hasattr(each, "get_input_embeddings"))
        return next(models)

    def _layer(self) -> torch.nn.Module:
        layer: torch.nn.Module = self._model().get_input_embeddings()
        return layer

    def _run(self, embeddings: torch.Tensor, *inputs: torch.Tensor) -> Tensors:
        return self._from(self._layer(), embeddings, inputs)

    def _run_example(self, embeddings: torch.Tensor, *inputs: torch.Tensor) -> Tensors:
        return self._from(example_layer(self._model()), embeddings, inputs)

    def _from(self, layer: torch.nn.Module, embeddings: torch.Tensor, inputs: Tensors) -> Tensors:
        with _hooked(layer, embeddings) as calls:
            outputs: Tensors = self.wrapped(*inputs)
        if len(calls) != 1:
            raise ValueError(f"the input embeddings are read {len(calls)} times, not once")
        return outputs

    def _embed_example(self, *inputs: torch.Tensor) -> torch.Tensor:
        with _hooked(example_layer(self._model())) as calls:
            self.wrapped(*inputs)
        return calls[0]


class _TwoInputs(Embedded):
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Tensors:
        outputs: Tensors = self.wrapped(input_ids, attention_mask)
        return outputs

    def forward_embeddings(
        self, embeddings: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> Tensors:
        return self._run(embeddings, input_ids, attention_mask)

    def example_embed(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self._embed_example(input_ids, attention_mask)

    def example_forward(
        self, embeddings: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> Tensors:
        return self._run_example(embeddings, input_ids, attention_mask)


class _ThreeInputs(Embedded):
    """With token types: a trace has a fixed number of arguments."""

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> Tensors:
        outputs: Tensors = self.wrapped(input_ids, attention_mask, token_type_ids)
        return outputs

    def forward_embeddings(
        self,
        embeddings: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> Tensors:
        return self._run(embeddings, input_ids, attention_mask, token_type_ids)

    def example_embed(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
    ) -> torch.Tensor:
        return self._embed_example(input_ids, attention_mask, token_type_ids)

    def example_forward(
        self,
        embeddings: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> Tensors:
        return self._run_example(embeddings, input_ids, attention_mask, token_type_ids)


@contextmanager
def _hooked(
    layer: torch.nn.Module, embeddings: torch.Tensor | None = None
) -> Iterator[list[torch.Tensor]]:
    """Make a layer return `embeddings` instead of its own; yield a list of its own, one a call."""
    calls: list[torch.Tensor] = []

    def answer(module: object, inputs: object, outputs: torch.Tensor) -> torch.Tensor:
        calls.append(outputs)
        return outputs if embeddings is None else embeddings

    handle = layer.register_forward_hook(answer)
    try:
        yield calls
    finally:
        handle.remove()


def embedded(wrapped: torch.nn.Module, inputs: int) -> Embedded:
    """Return a wrapped model of 2 inputs (ids and mask) or 3 (and token types) with all methods."""
    return {2: _TwoInputs, 3: _ThreeInputs}[inputs](wrapped).eval()


@contextmanager
def gradients_needed() -> Iterator[None]:
    """Turn any error of a model's code in the block into an ExportError with a remedy."""
    try:
        yield
    except Exception as error:
        raise ExportError(
            f"gradients cannot be taken of this model ({one_line(error)}); {TURN_OFF}"
        ) from error


def explained_layers(answer_form: AnswerForm) -> list[Layer]:
    """Return the layers at which attributions start, those of other protocols first."""
    return [TOKEN_LAYER] if answer_form == "hugging_face" else [TOKEN_LAYER, EXAMPLE_LAYER]


def explainable(
    proof: Proof,
    model: torch.nn.Module,
    wrap: Callable[[torch.nn.Module], torch.nn.Module],
    make_inputs: InputMaker,
    layers: Sequence[Layer],
) -> Proof:
    """Trace and prove all methods; ExportError if gradients are not the eager model's."""
    if not proof.claim.dynamic_length:
        raise ExportError(
            f"its trace holds at {proof.in_words()}, and explanations need any length; {TURN_OFF}"
        )
    shape = Shape(2 if proof.claim.dynamic_batch else 1, proof.lengths[-1], padded=True)
    example = make_inputs(shape)
    adapted = embedded(wrap(traceable(model)), len(example))
    with gradients_needed():
        methods = {"forward": example}
        for layer in layers:
            embeddings = layer.run(adapted, example, ids=0).detach()
            methods[layer.embed] = example[:1] if layer.embeds_ids else example
            methods[layer.forward] = (embeddings, *example)
        with record_tracer_warnings() as warnings, masks_by_broadcasting():
            module = trace_module(adapted, methods, in_place=False)
        eager = embedded(wrap(model), len(example))
        cases = [gradients(eager, proof.cases, layer) for layer in layers]
    report = compare_all(module, proof.cases, "compare (embeddings apart)")
    if report.broken is not None:
        raise ExportError(
            f"traced with its embeddings apart, it differs at {report.broken}; {TURN_OFF}"
        )
    for layer, of_layer in zip(layers, cases, strict=True):
        compare_gradients(module, of_layer, layer)
    warned = tuple(dict.fromkeys((*proof.warnings, *warnings)))
    return replace(proof, module=module, report=report, warnings=warned, gradients=cases[0])
