"""Config -> verified artifact."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import tokenizers
import torch
import transformers

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.output_folder import check_output, written_whole
from torchscript_bundle.export.proof import Proof, reads_padding
from torchscript_bundle.export.quality.choice import settle_precision
from torchscript_bundle.export.save_modes import save_mode_of
from torchscript_bundle.export.save_modes.save_mode import Job
from torchscript_bundle.export.source import quiet_transformers
from torchscript_bundle.export.tokenizer_file import check_tokenizer, save_tokenizer, special_ids
from torchscript_bundle.serving.artifact import (
    BUNDLE_FILE,
    CONFIG_FILE,
    FORMAT_VERSION,
    Bundle,
    Padding,
    file_sha256,
)

logger = logging.getLogger(__name__)


def export(config: SetupConfig, output: Path) -> Bundle:
    """Load, trace, prove and write an artifact; an ExportError leaves `output` untouched."""
    check_output(output)
    for note in config.notes:
        logger.warning("%s", note)
    quiet_transformers()
    with _step(f"load {config.model_name}"):
        source = load_source(config)
    mode = MODES[config.mode]
    labels = mode.labels(source.model.config, config.num_labels or None, config.artifacts)
    save_mode = save_mode_of(config, source)
    inputs = save_mode.inputs(mode, source)
    with _step(f"{save_mode.proving} ({_millions(source.model)} parameters)"):
        options = asdict(mode.options(source, config))
        if config.answer_form == "torchserve_example":
            options |= asdict(mode.example_options(source, config))
        inputs = (*inputs, *mode.further_inputs(options))
        head = mode.head(source, config)
        job = Job(config, source, mode, inputs, options, head and head.to(config.device))
        proof = save_mode.prove(job)
    _log_proof(proof)
    bundle = _describe(job, proof, labels)
    with written_whole(output, _size(source.model)) as folder:
        return _write(folder, job, proof, bundle)


def _write(folder: Path, job: Job, proof: Proof, bundle: Bundle) -> Bundle:
    with _step("save, reload and compare again"):
        proof = save_mode_of(job.config, job.source).save(job, proof, folder)
    with _step("save the tokenizer and compare it"):
        tokenizer = job.source.tokenizer
        save_tokenizer(tokenizer, folder)
        compared = check_tokenizer(tokenizer, folder, bundle, job.config.samples)
    (folder / CONFIG_FILE).write_text(job.config.dump(), encoding="utf-8")
    verification = {**proof.as_dict(), "tokenizer_texts_compared": compared}
    bundle = _with_files(replace(bundle, verification=verification), folder)
    if job.config.precision != "float32":
        with _step(f"try precision {job.config.precision} beside float32, as workers run it"):
            bundle = _with_files(settle_precision(job.config, folder, bundle), folder)
    bundle.dump(folder)
    return bundle


def _with_files(bundle: Bundle, folder: Path) -> Bundle:
    """Return the bundle with the sizes and digests of all other files in the folder."""
    paths = {path for path in folder.rglob("*") if path.is_file()} - {folder / BUNDLE_FILE}
    files = {path.relative_to(folder).as_posix(): path for path in sorted(paths)}
    return replace(
        bundle,
        sha256={name: file_sha256(path) for name, path in files.items()},
        sizes={name: path.stat().st_size for name, path in files.items()},
    )


def _describe(job: Job, proof: Proof, labels: tuple[str, ...]) -> Bundle:
    config, source, tokenizer = job.config, job.source, job.source.tokenizer
    save_mode = save_mode_of(config, source)
    unpadded = reads_padding(proof)
    if unpadded and config.padding == "max_length":
        raise ExportError('padding: it changes the answers of this model; set it to "longest"')
    if unpadded and config.answer_form == "torchserve_example":
        raise ExportError(
            "answer_form: the TorchServe example padded every text, which changes the answers of "
            'this model; set it to "hugging_face"'
        )
    return Bundle(
        format_version=FORMAT_VERSION,
        mode=config.mode,
        inputs=job.inputs,
        outputs=save_mode.outputs(job.mode),
        labels=labels,
        mode_options=job.mode_options,
        save_mode=config.save_mode,
        save_options=save_mode.options(job),
        min_length=proof.min_length,
        max_length=config.max_length,
        traced_lengths=proof.lengths,
        dynamic_batch=proof.claim.dynamic_batch,
        dynamic_length=proof.claim.dynamic_length,
        reads_padding=unpadded,
        explanations=config.captum_explanation,
        pairs=proof.pairs,
        answer_form=config.answer_form,
        precision="float32",
        padding=Padding(
            side=job.mode.padding_side(tokenizer),
            token_id=source.pad_id,
            type_id=tokenizer.pad_token_type_id,
        ),
        truncation_side="left" if tokenizer.truncation_side == "left" else "right",
        special_ids=special_ids(tokenizer),
        versions={
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        source={"model_name": source.name, "revision": source.revision, **source.base},
    )


def _log_proof(proof: Proof) -> None:
    logger.info("      holds at %s", proof.in_words())
    for claim, reason in proof.refused:
        logger.info("      refused: %s (%s)", claim, reason)
    if proof.pairs_refused:
        logger.info("      refused: two texts together (%s)", proof.pairs_refused)


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Log a step before it starts, and its time when it is done."""
    logger.info("  ... %s", title)
    started = time.perf_counter()
    yield
    logger.info("      %.1f s", time.perf_counter() - started)


def _size(module: torch.nn.Module) -> int:
    """Return the bytes of a module's weights, shared ones counted once."""
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _millions(module: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} M"
