"""Config -> verified artifact, whole or not at all."""

from __future__ import annotations

import inspect
import logging
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import tokenizers
import torch
import transformers

from torchscript_bundle.export.config import REPLACED, SetupConfig, samples
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.inputs import InputMaker
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.proof import Proof, compare_all, padding_effect, prove
from torchscript_bundle.export.source import Source, load_source, one_line, quiet_transformers
from torchscript_bundle.export.tokenizer import check_tokenizer, save_tokenizer, special_ids
from torchscript_bundle.jit import tracing
from torchscript_bundle.serving.artifact import (
    BUNDLE_FILE,
    CONFIG_FILE,
    FORMAT_VERSION,
    HASHED_FILES,
    MODULE_FILE,
    Bundle,
    Padding,
    file_sha256,
)

logger = logging.getLogger(__name__)

#: Above this, padding changes answers by more than rounding does.
PADDING_TOLERANCE = 1e-4


def export(config: SetupConfig, output: Path) -> Bundle:
    """Loads, traces, proves and writes the artifact of a config.

    Args:
        config: what to export.
        output: the artifact's folder; an older artifact there is replaced once the new one is
            proven.

    Returns:
        What was written as `bundle.json`.

    Raises:
        ExportError: the message says what is wrong and what to do; `output` is untouched.
    """
    _check_output(output)
    _note_old_keys(config)
    quiet_transformers()
    with _step(f"load {config.model_name}"):
        source = load_source(config)
    mode = MODES[config.mode]
    labels = mode.labels(source.model.config, config.num_labels, config.artifacts)
    inputs = _input_names(source)
    eager = mode.wrap(source.model, inputs).eval()
    with _step(f"trace and compare with the eager model ({_millions(eager)} parameters)"):
        make_inputs = InputMaker(source.tokenizer, inputs, torch.device(config.device))
        proof = prove(eager, make_inputs, config.lengths)
        effect = padding_effect(eager, make_inputs, config.max_length)
    _tell(proof)
    bundle = _describe(config, source, proof, effect, inputs, labels)
    with _written_whole(output) as folder:
        return _write(folder, config, source, proof, bundle)


def _write(
    folder: Path, config: SetupConfig, source: Source, proof: Proof, bundle: Bundle
) -> Bundle:
    with _step("save, reload and compare again"):
        try:
            tracing.save(proof.module, folder / MODULE_FILE)
            reloaded = tracing.load(folder / MODULE_FILE, torch.device(config.device))
        except RuntimeError as error:
            raise ExportError(
                f"the trace of {source.name} cannot be saved and loaded again "
                f"({one_line(error)}); check the room on the disk, or choose another model"
            ) from error
        results, broken = compare_all(reloaded, proof.cases, "compare the saved file")
        if broken is not None:
            raise ExportError(f"the saved file differs at {broken.shape}: {broken.message}")
    with _step("save the tokenizer and compare it"):
        save_tokenizer(source.tokenizer, folder)
        compared = check_tokenizer(source.tokenizer, folder, bundle, samples(config))
    (folder / CONFIG_FILE).write_text(config.dump(), encoding="utf-8")
    # The proof is that of the file as it was loaded again.
    report = {
        **bundle.verification,
        **replace(proof, results=results).report(),
        "tokenizer_texts_compared": compared,
    }
    bundle = replace(
        bundle,
        sha256={name: file_sha256(folder / name) for name in HASHED_FILES},
        sizes={name: (folder / name).stat().st_size for name in HASHED_FILES},
        verification=report,
    )
    bundle.dump(folder)
    return bundle


def _describe(
    config: SetupConfig,
    source: Source,
    proof: Proof,
    effect: float,
    inputs: tuple[str, ...],
    labels: tuple[str, ...],
) -> Bundle:
    tokenizer = source.tokenizer
    return Bundle(
        format_version=FORMAT_VERSION,
        mode=config.mode,
        inputs=inputs,
        labels=labels,
        mode_options=MODES[config.mode].options(source.model.config),
        min_length=proof.min_length,
        max_length=config.max_length,
        traced_lengths=proof.lengths,
        dynamic_batch=proof.claim.dynamic_batch,
        dynamic_length=proof.claim.dynamic_length,
        reads_padding=_reads_padding(proof, effect),
        precision="float32",
        padding=Padding(
            side="left" if tokenizer.padding_side == "left" else "right",
            token_id=tokenizer.pad_token_id,
            type_id=tokenizer.pad_token_type_id,
        ),
        truncation_side="left" if tokenizer.truncation_side == "left" else "right",
        special_ids=special_ids(tokenizer),
        versions={
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        source={"model_name": source.name, "revision": source.revision},
        verification={"padding_effect": effect},
    )


def _input_names(source: Source) -> tuple[str, ...]:
    """The arguments of `forward`: token types too, where the tokenizer makes them for the model."""
    takes = inspect.signature(source.model.forward).parameters
    typed = "token_type_ids" in source.tokenizer.model_input_names and "token_type_ids" in takes
    return ("input_ids", "attention_mask", *(("token_type_ids",) if typed else ()))


def _tell(proof: Proof) -> None:
    """Says what was proven and what was not."""
    logger.info("      holds at %s", proof.in_words())
    for claim, reason in proof.refused:
        logger.info("      refused: %s (%s)", claim, reason)


def _reads_padding(proof: Proof, effect: float) -> bool:
    """Whether texts must not be padded, because the model's answer would change.

    Raises:
        ExportError: so it is, and the module takes traced lengths only, to which texts are padded.
    """
    if effect <= PADDING_TOLERANCE:
        return False
    changes = f"padding changes this model's logits by {effect:.2g} of their scale"
    if not proof.claim.dynamic_length:
        raise ExportError(
            f"{changes} in spite of the mask, and its trace holds at {proof.in_words()}, so that "
            "texts of other lengths could not be answered as the model does; choose another model"
        )
    logger.warning("%s: texts will share a batch only with others of their length", changes)
    return True


def _note_old_keys(config: SetupConfig) -> None:
    """Says what became of keys of the TorchServe example that do nothing here."""
    for key, replaced in REPLACED.items():
        if getattr(config, key):
            logger.warning("%s is accepted and does nothing: %s", key, replaced)
    if config.captum_explanation:
        logger.warning("captum_explanation is accepted; this version exports no explanations")


def _check_output(output: Path) -> None:
    """Refuses to replace a folder that is not an artifact."""
    if output.exists() and not output.is_dir():
        raise ExportError(f"{output} is a file; give a folder with --output")
    if output.is_dir() and any(output.iterdir()) and not (output / BUNDLE_FILE).is_file():
        raise ExportError(
            f"{output} holds other files than an artifact's; give another folder with --output"
        )


@contextmanager
def _written_whole(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its place if the block succeeds."""
    output = output.resolve()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{output.name}.", dir=output.parent))
    except OSError as error:
        raise _not_written(output, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        _take_place(temporary, output)
    except OSError as error:
        raise _not_written(output, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _not_written(output: Path, error: OSError) -> ExportError:
    return ExportError(
        f"{output} could not be written ({error.strerror or error}); make room there, or give "
        "another folder with --output"
    )


def _take_place(temporary: Path, output: Path) -> None:
    """Renames `temporary` to `output`; an older `output` stays if that fails."""
    old = temporary.with_name(temporary.name + ".old")
    if output.exists():
        output.rename(old)
    try:
        temporary.rename(output)
    except OSError:
        if old.exists():
            old.rename(output)
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _step(title: str) -> Iterator[None]:
    """Announces a step before it starts and its time when it is done."""
    logger.info("  ... %s", title)
    started = time.perf_counter()
    yield
    logger.info("      %.1f s", time.perf_counter() - started)


def _millions(module: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()) / 1e6:.1f} M"
