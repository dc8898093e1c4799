"""Read `setup_config.json` and explain wrong keys, at once: without torch and transformers. what is said about a wrong one. Imports neither torch nor
transformers, so that a wrong config is told at once.
"""

from __future__ import annotations

from torchscript_bundle.export.config.reading import load_config
from torchscript_bundle.export.config.settings import SetupConfig

__all__ = ["SetupConfig", "load_config"]
