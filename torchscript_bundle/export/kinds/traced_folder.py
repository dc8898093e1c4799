"""A folder whose model is a traced file: `traced_model.pt`, its facts, a tokenizer."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from torchscript_bundle.export.adopt.old_handler import FirstOutputs, OldHandler, first_outputs
from torchscript_bundle.export.adopt.traced_file import count_inputs, load_traced, read_code
from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.kinds.kind import Kind
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.source import Source
from torchscript_bundle.export.tokenizer_file import highest_id
from torchscript_bundle.export.tokenizer_loading import load_tokenizer
from torchscript_bundle.jit.tracing import Tensors
from torchscript_bundle.jit.verify import Shape, last_line
from torchscript_bundle.serving.artifact import MODULE_FILE

FACTS_FILE = "traced_model.json"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class TraceFacts:
    """Facts about a traced module, in the file beside it.

    Attributes:
        max_length: tokens that the old handler padded each text to.
        archive: name of the archive that it came from.
        sha256: digest of that archive.
    """

    max_length: int
    archive: str
    sha256: str

    def dump(self, folder: Path) -> None:
        """Write the facts beside the traced module."""
        (folder / FACTS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")

    @staticmethod
    def load(folder: Path) -> TraceFacts:
        """Read the facts; ExportError if they are not what `dump` wrote."""
        path = folder / FACTS_FILE
        try:
            return TraceFacts(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise ExportError(f"{path}: not what adopt wrote; adopt the archive again") from error


@dataclass(frozen=True, kw_only=True)
class TracedSource(Source):
    """A traced module instead of a model; `model` computes what the old handler did.

    Attributes:
        traced: the module, whose outputs are those of the mode; `inputs` names its arguments.
        path: its file, if that can be served as it is; None if `traced` wraps it.
    """

    traced: torch.nn.Module
    path: Path | None
    inputs: tuple[str, ...]


class TracedFolder(Kind):
    def recognises(self, folder: Path, config: SetupConfig) -> bool:
        return config.local_model is not None and (folder / FACTS_FILE).is_file()

    def load(self, folder: Path, revision: str | None, config: SetupConfig) -> Source:
        return _load(folder, config)

    def check_fit(self, source: Source, config: SetupConfig) -> None:
        """Accept what `load` has tried: a traced module tells none of its sizes."""


def _load(folder: Path, config: SetupConfig) -> TracedSource:
    """Load the traced module in a folder, and find out what it takes and gives."""
    _check_config(config)
    facts = TraceFacts.load(folder)
    device = torch.device(config.device)
    path = folder / MODULE_FILE
    if not path.is_file():
        raise ExportError(f"{path} is missing; adopt the archive again")
    code = read_code(path)
    module = load_traced(path, code, device)
    inputs = INPUTS[: count_inputs(module)]
    tokenizer = load_tokenizer(folder, config)
    mode = MODES[config.mode]
    make_inputs = InputMaker(tokenizer, inputs, device, pairs=mode.pairs == "always")
    length = _traced_length(module, make_inputs, facts.max_length, code)
    if config.max_length != length:
        raise ExportError(
            f"max_length is {config.max_length}, the old handler ran the traced module at {length} "
            f"tokens; set max_length to {length}"
        )
    selected = FirstOutputs(module, len(mode.outputs)).eval()
    _check_tokenizer(selected, make_inputs, tokenizer, length, config)
    with torch.no_grad():
        outputs = module(*make_inputs(Shape(1, length)))
    labels = _count_labels(outputs, length, config)
    as_it_is = isinstance(outputs, tuple) and len(outputs) == len(mode.outputs)
    return TracedSource(
        model=OldHandler(
            selected,
            mode.outputs,
            make_inputs,
            length,
            PretrainedConfig.from_dict({"num_labels": labels}),
        ),
        tokenizer=tokenizer,
        name=config.model_name,
        revision=None,
        folder=folder,
        traced=module if as_it_is else selected,
        path=path if as_it_is else None,
        inputs=inputs,
    )


def _check_config(config: SetupConfig) -> None:
    """Refuse what only a model that is not traced yet could do."""
    if MODES[config.mode].traced_dimensions is None:
        able = ", ".join(name for name, mode in MODES.items() if mode.traced_dimensions)
        raise ExportError(
            f"a traced module cannot be served as {config.mode}; it can be as {able}. Export the "
            "model from its checkpoint for others"
        )
    if config.save_mode != "torchscript":
        raise ExportError(
            f'{config.model_name} holds a traced module alone; set save_mode to "torchscript"'
        )
    if config.captum_explanation:
        raise ExportError(
            "captum_explanation: a traced module gives no gradients of its embeddings; set it to "
            "false, or export the model from its checkpoint"
        )


def _traced_length(
    module: torch.jit.ScriptModule, make_inputs: InputMaker, stated: int, code: str
) -> int:
    """Return the length that the old handler padded to: the stated one, if the module takes it.

    A length that a trace keeps is a number in its code, so only such numbers are tried, on token
    0, which every vocabulary has.
    """

    def fails(length: int) -> str | None:
        ids, *others = make_inputs(Shape(1, length))
        return _failure(module, (torch.zeros_like(ids), *others))

    written = {int(number) for number in re.findall(r"\b\d{1,4}\b", code)}
    for length in (stated, *sorted((n for n in written if n >= 4), reverse=True)):
        if fails(length) is None:
            return length
    raise ExportError(
        f"the traced module cannot be run at {stated} tokens, which its config states "
        f"({fails(stated)}), nor at any length in its code"
    )


def _failure(module: torch.nn.Module, inputs: Tensors) -> str | None:
    """Return why the module does not take the inputs, or None."""
    try:
        with torch.no_grad():
            module(*inputs)
    except (RuntimeError, IndexError) as error:
        return last_line(error)
    return None


def _count_labels(outputs: Any, length: int, config: SetupConfig) -> int:
    """Return the last dimension of the first output; ExportError if another mode gave it."""
    mode = MODES[config.mode]
    try:
        first = first_outputs(outputs, len(mode.outputs))
        shapes = [tuple(each.shape) for each in first]
    except (AttributeError, TypeError, KeyError) as error:
        raise ExportError(
            "the traced module returns no tuple of tensors; export the model from its checkpoint"
        ) from error
    fits = len(shapes) == len(mode.outputs) and all(
        len(shape) == mode.traced_dimensions and (not output.per_token or shape[1] == length)
        for shape, output in zip(shapes, mode.outputs, strict=False)
    )
    if not fits:
        given = ", ".join(map(str, shapes))
        raise ExportError(
            f"the traced module returns {given} for one text of {length} tokens, which is no "
            f"output of {config.mode}; set mode to the one that it was traced for"
        )
    return int(shapes[0][-1])


def _check_tokenizer(
    module: torch.nn.Module,
    make_inputs: InputMaker,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    config: SetupConfig,
) -> None:
    """Refuse a tokenizer with ids that the module has no embedding for."""
    highest = highest_id(tokenizer)
    ids, *others = make_inputs(Shape(1, length))
    ids[0, 1] = highest
    if _failure(module, (ids, *others)) is not None:
        raise ExportError(
            f"the tokenizer of {config.model_name} gives token ids up to {highest}, for which the "
            "traced module has no embedding; adopt the archive with the tokenizer that the model "
            "was trained with (--tokenizer)"
        )
