"""Read `setup_config.json`, without torch and transformers, to report a wrong config at once."""

from __future__ import annotations

from torchscript_bundle.export.config.reading import load_config
from torchscript_bundle.export.config.settings import SetupConfig

__all__ = ["SetupConfig", "load_config"]
