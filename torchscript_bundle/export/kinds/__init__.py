"""The kinds of model that can be exported: one file each, one line each here.

`load_source` loads the model that a config names, or says in one sentence why it cannot be served.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.hub import find_folder
from torchscript_bundle.export.kinds.kind import Kind
from torchscript_bundle.export.kinds.peft_adapter import PeftAdapter
from torchscript_bundle.export.kinds.setfit_folder import SetFitFolder
from torchscript_bundle.export.kinds.traced_folder import TracedFolder
from torchscript_bundle.export.kinds.transformers_folder import TransformersFolder
from torchscript_bundle.export.source import Source

logger = logging.getLogger(__name__)

#: The first that recognises a folder loads it; the last recognises every folder.
KINDS: tuple[Kind, ...] = (TracedFolder(), PeftAdapter(), SetFitFolder(), TransformersFolder())


def load_source(config: SetupConfig) -> Source:
    """Load the model that a config names, downloading it if need be."""
    _check_device(config.device)
    if config.trust_remote_code:
        logger.warning("trust_remote_code is set: Python code that comes with the model will run")
    folder, revision = find_folder(config)
    kind = next(each for each in KINDS if each.recognises(folder, config))
    source = kind.load(folder, revision, config)
    kind.check_fit(source, config)
    head = source.head and source.head.to(config.device)
    return replace(source, model=source.model.to(config.device), head=head)


def _check_device(device: str) -> None:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device != "cpu" and (torch.device(device).index or 0) >= count:
        raise ExportError(
            f"device is {device}, torch sees {count} CUDA devices on this machine; set device to "
            "cpu or to one of them in setup_config.json"
        )
