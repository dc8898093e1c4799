"""Subcommands that make archives: export, archive, adopt, sign, proof."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

from torchscript_bundle.commands.command import add_artifact, add_config, add_folders


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `export`."""
    add_config(parser)
    add_artifact(parser)


def run_export(arguments: argparse.Namespace) -> None:
    """Export the model of a config."""
    export_config(arguments.config, arguments.artifact)


def export_config(path: Path, artifact: Path) -> None:
    """Export the model of a config file into a folder, and say what holds."""
    from torchscript_bundle.export.config import load_config

    _show_progress()
    started = time.perf_counter()
    config = load_config(path)
    # Imported after that, since it takes seconds: a wrong config should be told at once.
    from torchscript_bundle.export.exporter import export

    bundle = export(config, artifact)
    size = sum(bundle.sizes.values()) / 1e6
    print(f"{artifact}: {bundle.mode}, {size:.1f} MB, {time.perf_counter() - started:.1f} s")
    print(f"proven exact: {bundle.verification['holds']}")


def _show_progress() -> None:
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("torchscript_bundle").setLevel(logging.INFO)


def add_archive_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `archive`."""
    add_config(parser)
    add_artifact(parser)
    add_folders(parser, "--model-store")


def run_archive(arguments: argparse.Namespace) -> None:
    """Pack the artifact of a config."""
    from torchscript_bundle.export.archive import pack_and_say
    from torchscript_bundle.export.config import load_config

    pack_and_say(load_config(arguments.config), arguments.artifact, arguments.model_store)


def make_archive(path: Path, artifact: Path, model_store: Path) -> Path:
    """Return the archive of a config; make it if there is none, or one of another config.

    What else an archive is made from (weights, labels, samples) is not compared.
    """
    from torchscript_bundle.export.archive import pack_and_say
    from torchscript_bundle.export.config import load_config
    from torchscript_bundle.server.archives import ArchiveError, read_config
    from torchscript_bundle.serving.artifact import CONFIG_FILE

    config = load_config(path)
    archive = model_store / f"{config.served_name}.mar"
    if archive.is_file():
        try:
            if read_config(archive) == config.dump():
                return archive
        except ArchiveError as error:
            print(f"  ... {error}")
    exported = artifact / CONFIG_FILE
    if not exported.is_file() or exported.read_text(encoding="utf-8") != config.dump():
        print("== export", flush=True)
        export_config(path, artifact)
    print("== archive", flush=True)
    return pack_and_say(config, artifact, model_store)


def add_adopt_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `adopt`."""
    what = "archive of the TorchServe Hugging Face example"
    parser.add_argument("archive", type=Path, metavar="OLD.mar", help=what)
    what = "where its model, labels and config go (default: adopted/<name of the archive>)"
    parser.add_argument("--folder", type=Path, metavar="DIR", help=what)
    what = "folder or Hub model with the tokenizer, in place of the archive's or its config's"
    parser.add_argument("--tokenizer", metavar="NAME", help=what)
    add_folders(parser, "--model-store")


def run_adopt(arguments: argparse.Namespace) -> None:
    """Turn an old archive into a folder with a config, export that, and pack it."""
    from torchscript_bundle.export.adopt.adoption import adopt, served_name
    from torchscript_bundle.export.archive import pack_and_say
    from torchscript_bundle.export.config import load_config
    from torchscript_bundle.export.errors import ExportError

    _show_progress()
    old, store = arguments.archive, arguments.model_store
    folder = arguments.folder or Path("adopted") / old.stem
    target = store / f"{served_name(old)}.mar"
    if target.exists() and target.samefile(old):
        raise ExportError(
            f"{target} would be replaced by what it is adopted as; give another folder with "
            "--model-store"
        )
    print(f"== read {old} into {folder}", flush=True)
    path = adopt(old, folder, arguments.tokenizer)
    print("== export", flush=True)
    try:
        export_config(path, folder / "artifact")
    except ExportError as error:
        raise ExportError(
            f"{error}\n{path} has its settings: correct them, then `torchscript-bundle serve "
            f"--config {path}`; or remove {folder}"
        ) from error
    print("== archive", flush=True)
    pack_and_say(load_config(path), folder / "artifact", store)
    print(f"serve it: torchscript-bundle start --config {path}")


def add_sign_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `sign`."""
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="the archive (.mar)")
    what = "private Ed25519 key in PEM, as `openssl genpkey -algorithm ed25519` makes it"
    parser.add_argument("--key", type=Path, required=True, metavar="FILE", help=what)


def run_sign(arguments: argparse.Namespace) -> None:
    """Sign an archive."""
    from torchscript_bundle.server.signatures import sign

    print(f"{sign(arguments.archive, arguments.key)}: signature of {arguments.archive}")


def add_proof_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `proof`."""
    add_artifact(parser)


def run_proof(arguments: argparse.Namespace) -> None:
    """Print the proof of an artifact."""
    # No other command needs rich, nor should it wait for it.
    from rich.console import Console

    from torchscript_bundle.export.proof_table import print_proof

    print_proof(arguments.artifact, Console())
