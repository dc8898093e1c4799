"""`save_mode: "pretrained"`: the files of `save_pretrained`, which a worker runs with transformers.

Nothing is traced, so any length holds. The proof tries whether rows may share a batch, and whether
the written files answer as the model did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from torchscript_bundle.disk import lack_of_room
from torchscript_bundle.export.claims import Claim
from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.export.explanation import embedded, explained_layers, gradients_needed
from torchscript_bundle.export.gradients import compare_gradients, gradients
from torchscript_bundle.export.hints import check_servable
from torchscript_bundle.export.kinds.transformers_folder import (
    auto_class_for,
    missing_weights,
    read_model,
)
from torchscript_bundle.export.modes.base import ExportMode
from torchscript_bundle.export.oracle import covered, padding_effect, rows_apart, run_grid
from torchscript_bundle.export.proof import PADDING_TOLERANCE, Proof, compare_all
from torchscript_bundle.export.save_modes.save_mode import Job, SaveMode, prove_pairs
from torchscript_bundle.export.wrappers import wrap_model
from torchscript_bundle.jit.verify import Case, Report
from torchscript_bundle.serving.artifact import PRETRAINED_FOLDER, Output

TOGETHER = Claim(dynamic_batch=True, dynamic_length=True)
ALONE = Claim(dynamic_batch=False, dynamic_length=True)


class Pretrained(SaveMode):
    """Saves the model as transformers does."""

    proving = "run the model, rows together and alone"

    def outputs(self, mode: ExportMode) -> tuple[Output, ...]:
        return mode.model_outputs

    def options(self, job: Job) -> dict[str, Any]:
        return {
            "auto_class": auto_class_for(job.config.task, type(job.source.model).__name__),
            "trust_remote_code": job.config.trust_remote_code,
        }

    def prove(self, job: Job) -> Proof:
        check_servable(job.source.model)
        make_inputs = job.make_inputs()
        eager = self._wrap(job, job.source.model)
        lengths = job.config.lengths
        cases = run_grid(eager, make_inputs, lengths)
        apart = rows_apart(eager, cases, PADDING_TOLERANCE)
        claim = ALONE if apart else TOGETHER
        proof = Proof(
            module=eager,
            claim=claim,
            lengths=lengths[-1:],
            cases=covered(eager, cases, claim, lengths),
            report=Report(()),
            padding_effect=padding_effect(eager, make_inputs, lengths[-1]),
            refused=[(TOGETHER, apart)] if apart else [],
        )

        def objection(cases: Sequence[Case]) -> str | None:
            return rows_apart(eager, cases, PADDING_TOLERANCE) if claim == TOGETHER else None

        proof = prove_pairs(job, proof, eager, objection)
        if not job.config.captum_explanation:
            return proof
        with gradients_needed():
            apart_at = explained_layers(job.config.answer_form)
            model = embedded(eager, len(job.inputs))
            tried = [gradients(model, proof.cases, layer) for layer in apart_at]
            return replace(proof, gradients=tried[0])

    def save(self, job: Job, proof: Proof, folder: Path) -> Proof:
        place, model = folder / PRETRAINED_FOLDER, job.source.model
        # A checkpoint may lack these; random values of transformers have no place in a file.
        unused = job.config.task.unused_weights
        kept = {key: t for key, t in model.state_dict().items() if not key.startswith(unused)}
        try:
            model.save_pretrained(place, state_dict=kept)
            reloaded, loading = read_model(place, job.config)
        except Exception as error:  # the model's own code may run here
            full = lack_of_room(error)
            if full is not None:
                raise full from error
            raise ExportError(
                f"the model cannot be saved and loaded again ({one_line(error)}); choose "
                "another model"
            ) from error
        missing = missing_weights(loading, job.config.task)
        if missing:
            raise ExportError(
                f"the saved files lack {', '.join(missing[:3])}; choose another model"
            )
        again = self._wrap(job, reloaded.to(job.config.device))
        report = compare_all(again, proof.cases, "compare the saved files")
        if report.broken is not None:
            raise ExportError(f"the saved files differ at {report.broken}")
        if not proof.gradients:
            return replace(proof, report=report)
        difference = compare_gradients(embedded(again, len(job.inputs)), proof.gradients).worst
        return replace(proof, report=report, gradient_difference=difference)

    def _wrap(self, job: Job, model: torch.nn.Module) -> torch.nn.Module:
        try:
            names = tuple(output.name for output in self.outputs(job.mode))
            return wrap_model(model, job.inputs, names).eval()
        except ValueError as error:
            raise ExportError(
                f"{job.source.name} cannot be run for {job.config.mode}: {error}; choose another "
                "model"
            ) from error
