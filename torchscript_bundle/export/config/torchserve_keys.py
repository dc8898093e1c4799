"""Translate the keys of the TorchServe example's files and of `model-config.yaml` into our own.

The example had `setup_config.json` up to 0.11.0, then `model-config.yaml`; other users have a model
config with TorchServe's own keys. Sources of the keys: pytorch/serve,
examples/Huggingface_Transformers and
frontend/archive/src/main/java/org/pytorch/serve/archive/model/ModelConfig.java.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: The key of `model-config.yaml` that holds those of the example.
HANDLER = "handler"
#: TorchServe's name -> ours.
RENAMED = {
    "batchSize": "batch_size",
    "maxBatchDelay": "max_batch_delay",
    "responseTimeout": "response_timeout",
    "startupTimeout": "startup_timeout",
}

_FUSED = "torch's own fused attention is always used"
#: Keys of the example's handler that do nothing here -> why.
UNUSED = {
    "embedding_name": "the embedding that explanations start from is found by itself",
    "FasterTransformer": _FUSED,
    "BetterTransformer": _FUSED,
    "model_parallel": "the whole model runs on each worker's device; start more workers instead",
    "hardware": "models are traced for CPUs and CUDA GPUs alone; no other hardware is served",
}

_WORKERS = "how many workers there are is the server's to say; start it with WORKERS=<number>"
_WHOLE = "the whole model runs on each worker's device"
_OF_SERVER = "it is left to TorchServe's own default"
_SEQUENCES = "a request needs no other before it, so there are no sequences of requests"
#: TorchServe's keys that do nothing here -> why.
UNUSED_BY_ARCHIVE = {
    "minWorkers": _WORKERS,
    "maxWorkers": _WORKERS,
    "deviceType": "a worker takes the GPU that TorchServe gives it, else the CPU; the key "
    "device says where the model is traced",
    "deviceIds": "a worker takes the GPU that TorchServe gives it; CUDA_VISIBLE_DEVICES chooses",
    "parallelType": _WHOLE,
    "parallelLevel": _WHOLE,
    "torchrun": _WHOLE,
    "pippy": _WHOLE,
    "deepspeed": _WHOLE,
    "micro_batching": "a call of a worker is cut into batches by what they cost",
    "pt2": "workers run the traced module; torch.compile is not used",
    "continuousBatching": "the modes that write always have it, the others never",
    "sequenceBatching": _SEQUENCES,
    "sequenceMaxIdleMSec": _SEQUENCES,
    "sequenceTimeoutMSec": _SEQUENCES,
    "maxSequenceJobQueueSize": _SEQUENCES,
    "maxNumSequence": _SEQUENCES,
    "maxRetryTimeoutInSec": _OF_SERVER,
    "clientTimeoutInMills": _OF_SERVER,
    "jobQueueSize": _OF_SERVER,
    "useJobTicket": _OF_SERVER,
    "asyncCommunication": _OF_SERVER,
    "useVenv": "workers use the Python that the server runs in",
}
_ALL_UNUSED = {**UNUSED, **UNUSED_BY_ARCHIVE}


@dataclass
class Translation:
    """A config file in our own keys, unknown ones included.

    `written` maps our keys to other spellings in the file. `notes` are sentences about keys that do
    nothing, `faults` about keys that contradict each other.
    """

    values: dict[str, Any] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def take(self, key: str, value: Any, written: str) -> None:
        """Take one entry of the file, where it is spelled `written`."""
        if key in _ALL_UNUSED:
            if value not in (None, False):
                self.notes.append(f"{written} is accepted and does nothing: {_ALL_UNUSED[key]}")
            return
        ours = RENAMED.get(key, key)
        if ours in self.values and self.values[ours] != value:
            other = self.written.get(ours, ours)
            self.faults.append(f"{written} and {other} say the same differently; remove one")
            return
        self.values[ours] = value
        if written != ours:
            self.written[ours] = written


def translate(raw: Mapping[str, Any]) -> Translation:
    """Translate a config file, its `handler` first."""
    found = Translation()
    handler = raw.get(HANDLER)
    if isinstance(handler, dict):
        for key, value in handler.items():
            found.take(str(key), value, f"{HANDLER}.{key}")
    elif HANDLER in raw:
        found.faults.append(f"{HANDLER}: must hold an object of keys and values")
    for key, value in raw.items():
        if key != HANDLER:
            found.take(str(key), value, str(key))
    return found
