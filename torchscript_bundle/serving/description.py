"""What an archive says of itself when it is asked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.precisions import Running

DESCRIBED = ("mode", "save_mode", "labels", "max_length", "precision", "versions", "source")


def describe_bundle(bundle: Bundle, running: Running) -> dict[str, Any]:
    """What was exported, and in which precision it runs here."""
    facts = asdict(bundle)
    return {
        **{name: facts[name] for name in DESCRIBED},
        "running": {"precision": running.precision, "reason": running.reason},
    }
