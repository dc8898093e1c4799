"""The traced module of an old archive, compared with what its handler computed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.adopt.traced_file import load_traced, read_code
from torchscript_bundle.export.claims import Claim
from torchscript_bundle.export.kinds.traced_folder import TracedSource
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.oracle import run_grid
from torchscript_bundle.export.proof import (
    Proof,
    Traced,
    compare_reloaded,
    save_and_compare,
    strongest,
)
from torchscript_bundle.export.save_modes.save_mode import Job, SaveMode
from torchscript_bundle.export.source import Source
from torchscript_bundle.jit.compilation import trace
from torchscript_bundle.jit.verify import Shape
from torchscript_bundle.serving.artifact import MODULE_FILE, Output

NO_PAIRS = "the old handler took one text a request, so nothing is known of two"


class Adopted(SaveMode):
    """Serves a traced file at the shapes at which it equals what the old handler computed.

    That handler gave the module one row at a time, padded to one length.
    """

    proving = "compare the traced module with what the old handler computed"

    def inputs(self, mode: ExportMode, source: Source) -> tuple[str, ...]:
        return _traced(source).inputs

    def outputs(self, mode: ExportMode) -> tuple[Output, ...]:
        return mode.outputs

    def options(self, job: Job) -> dict[str, Any]:
        return {}

    def prove(self, job: Job) -> Proof:
        source, make_inputs = _traced(job.source), job.make_inputs()
        module = source.traced
        if source.path is None:
            example = make_inputs(Shape(2, job.config.max_length))
            module = trace(module, example, in_place=False)
        cases = run_grid(source.model, make_inputs, job.config.lengths)

        def make(claim: Claim, lengths: tuple[int, ...]) -> Traced:
            return module, ()

        # What is compared is padded to its end, so padding can change nothing that is claimed.
        proof = strongest(source.model, cases, job.config.lengths, 0.0, make)
        if job.mode.pairs == "always":
            return replace(proof, pairs=True)
        return replace(proof, pairs_refused=NO_PAIRS if job.mode.pairs == "offered" else "")

    def save(self, job: Job, proof: Proof, folder: Path) -> Proof:
        path, device = folder / MODULE_FILE, torch.device(job.config.device)
        given = _traced(job.source).path
        if given is None:
            return save_and_compare(proof, path, device)
        shutil.copyfile(given, path)
        return compare_reloaded(proof, load_traced(path, read_code(path), device))


def _traced(source: Source) -> TracedSource:
    assert isinstance(source, TracedSource)  # exporter.export chooses by it
    return source
