"""`save_mode: "torchscript"`: a trace, which a worker runs with torch alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.explanation import explainable
from torchscript_bundle.export.modes.base import ExportMode, Writes
from torchscript_bundle.export.proof import Proof, prove, save_and_compare
from torchscript_bundle.export.save_modes.base import Job
from torchscript_bundle.serving.artifact import MODULE_FILE, Output


class TorchScript:
    """See the module."""

    proving = "trace and compare with the eager model"

    def outputs(self, mode: ExportMode) -> tuple[Output, ...]:
        return mode.outputs

    def options(self, job: Job) -> dict[str, Any]:
        return {}

    def prove(self, job: Job) -> Proof:
        mode, model = job.mode, job.source.model
        if isinstance(mode, Writes):
            return mode.prove(model, job.config, job.mode_options)
        make_inputs = job.make_inputs()
        wrap = partial(mode.wrap, inputs=job.inputs, options=job.mode_options)
        proof = prove(model, wrap, make_inputs, job.config.lengths)
        if not job.config.captum_explanation:
            return proof
        return explainable(proof, model, wrap, make_inputs)

    def save(self, job: Job, proof: Proof, folder: Path) -> Proof:
        return save_and_compare(proof, folder / MODULE_FILE, torch.device(job.config.device))
