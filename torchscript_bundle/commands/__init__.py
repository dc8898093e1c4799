"""The subcommands of `torchscript-bundle`, in the order of their use.

To add one, write its flags and what it does, and enter both in `COMMANDS`. Whatever takes long to
import (torch, transformers, the config) is imported in the function that needs it.
"""

from __future__ import annotations

from torchscript_bundle.commands import building, operating, supervising
from torchscript_bundle.commands.command import Command

COMMANDS: dict[str, Command] = {
    "export": Command(
        "load a config's model, trace it and prove that its outputs are the original's",
        building.add_export_flags,
        building.run_export,
    ),
    "archive": Command(
        "pack what was exported into an archive (.mar) for TorchServe",
        building.add_archive_flags,
        building.run_archive,
    ),
    "adopt": Command(
        "make an archive of one of the TorchServe Hugging Face example",
        building.add_adopt_flags,
        building.run_adopt,
    ),
    "sign": Command(
        "sign an archive, for servers that demand it with --signed-by",
        building.add_sign_flags,
        building.run_sign,
    ),
    "serve": Command(
        "serve archives in the background, by default the config's, which is made first where it "
        "is missing or of another config; a server that runs takes them without a lost request",
        operating.add_serve_flags,
        operating.run_serve,
    ),
    "start": Command(
        "start TorchServe alone with an archive that is there; return when it has answered",
        operating.add_start_flags,
        operating.run_start,
    ),
    "predict": Command(
        "send texts to the server; print each with its answer",
        operating.add_predict_flags,
        operating.run_predict,
    ),
    "status": Command(
        "ask the server for an answer; say where it listens, or what is wrong",
        operating.add_status_flags,
        operating.run_status,
    ),
    "token": Command(
        "print the key that clients send (Authorization: Bearer ...)",
        operating.add_run_folder,
        operating.run_token,
    ),
    "stop": Command("stop the server", operating.add_run_folder, operating.run_stop),
    "run": Command(
        "serve models in production, in the foreground: nginx before TorchServe, restarts, "
        "new archives and an end without a lost request",
        supervising.add_run_flags,
        supervising.run_run,
    ),
    "proof": Command(
        "print what was compared when a model was exported",
        building.add_proof_flags,
        building.run_proof,
    ),
}

__all__ = ["COMMANDS", "Command"]
