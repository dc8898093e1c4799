"""`save_mode: "torchscript"`: a trace, which a worker runs with torch alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.explanation import explainable, explained_layers
from torchscript_bundle.export.modes.base import ExportMode, Given
from torchscript_bundle.export.proof import Proof, compare_all, prove, save_and_compare
from torchscript_bundle.export.save_modes.save_mode import Job, SaveMode, prove_pairs
from torchscript_bundle.jit.verify import Case
from torchscript_bundle.serving.artifact import MODULE_FILE, Output


class TorchScript(SaveMode):
    """Traces the model, so that a worker runs it with torch alone."""

    proving = "trace and compare with the eager model"

    def outputs(self, mode: ExportMode) -> tuple[Output, ...]:
        return mode.outputs

    def options(self, job: Job) -> dict[str, Any]:
        return {}

    def prove(self, job: Job) -> Proof:
        mode, model = job.mode, job.source.model
        if job.config.task.generates:
            return mode.prove(model, job.config, job.mode_options)
        make_inputs = job.make_inputs()
        given = Given(job.inputs, job.mode_options, job.head)
        wrap = partial(mode.wrap, given=given)
        reference = partial(mode.reference, given=given)
        proof = prove(model, wrap, make_inputs, job.config.lengths, reference)

        def objection(cases: Sequence[Case]) -> str | None:
            broken = compare_all(proof.module, cases, "compare pairs").broken
            return None if broken is None else str(broken)

        paired = prove_pairs(job, proof, reference(model).eval(), objection)
        if not job.config.captum_explanation:
            return paired
        layers = explained_layers(job.config.answer_form)
        return explainable(paired, model, wrap, make_inputs, layers)

    def save(self, job: Job, proof: Proof, folder: Path) -> Proof:
        return save_and_compare(proof, folder / MODULE_FILE, torch.device(job.config.device))
