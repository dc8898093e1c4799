"""`save_mode: "torchscript"`: a trace, which a worker runs with torch alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.export.explanation import explainable
from torchscript_bundle.export.modes.base import ExportMode, Writes
from torchscript_bundle.export.pairs import try_pairs
from torchscript_bundle.export.proof import Proof, compare_all, prove, save_and_compare
from torchscript_bundle.export.save_modes.base import Job
from torchscript_bundle.jit.verify import Case
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
        proof = self._with_pairs(proof, wrap(model).eval(), job)
        if not job.config.captum_explanation:
            return proof
        return explainable(proof, model, wrap, make_inputs)

    def _with_pairs(self, proof: Proof, eager: torch.nn.Module, job: Job) -> Proof:
        if job.mode.pairs != "offered":
            return replace(proof, pairs=job.mode.pairs == "always")

        def objection(cases: Sequence[Case]) -> str | None:
            broken = compare_all(proof.module, cases, "compare pairs").broken
            return None if broken is None else str(broken)

        return try_pairs(proof, eager, job.make_inputs(pairs=True), job.config.lengths, objection)

    def save(self, job: Job, proof: Proof, folder: Path) -> Proof:
        return save_and_compare(proof, folder / MODULE_FILE, torch.device(job.config.device))
