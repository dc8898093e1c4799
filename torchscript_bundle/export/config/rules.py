"""What keys of a config may not say together."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.modes.base import Writes

if TYPE_CHECKING:
    from torchscript_bundle.export.config import SetupConfig

#: Precisions that workers have on one kind of device alone.
ONLY_ON = {"float16": "cuda", "int8": "cpu"}
#: The least max_length of a model that writes: what its proof needs for its texts and answers.
SHORTEST_WRITTEN = 16


@dataclass(frozen=True)
class Contradiction:
    """Keys that do not go together.

    Attributes:
        keys: all of them.
        says: which one to change, and to what.
    """

    keys: tuple[str, ...]
    says: str


def contradictions(config: SetupConfig) -> Iterator[Contradiction]:
    """Find every pair of keys that contradict each other."""
    for rule in RULES:
        yield from rule(config)


def _settings_of_other_modes(config: SetupConfig) -> Iterator[Contradiction]:
    """A key that only other modes read."""
    own = MODES[config.mode].settings
    for key in {key: None for mode in MODES.values() for key in mode.settings}:
        default = type(config).model_fields[key].default
        if key not in own and getattr(config, key) != default:
            readers = " and ".join(name for name in MODES if key in MODES[name].settings)
            yield Contradiction(
                ("mode", key), f"{key} is for the mode {readers}; remove it for {config.mode}"
            )


def _what_cannot_be_written(config: SetupConfig) -> Iterator[Contradiction]:
    """What a model that writes cannot do."""
    mode = MODES[config.mode]
    if not isinstance(mode, Writes):
        return
    if config.precision not in mode.precisions:
        yield Contradiction(
            ("mode", "precision"),
            f"precision: {config.mode} is served in {' or '.join(mode.precisions)}, not in "
            f"{config.precision}",
        )
    if config.padding != "longest":
        yield Contradiction(
            ("mode", "padding"), f'padding: {config.mode} has no other than "longest"'
        )
    if config.max_length < SHORTEST_WRITTEN:
        yield Contradiction(
            ("mode", "max_length"),
            f"max_length is {config.max_length}; {config.mode} needs at least {SHORTEST_WRITTEN}, "
            "for a text and its answer",
        )
    needed = mode.request_tokens(config.max_length)
    if config.max_batch_tokens < needed:
        yield Contradiction(
            ("mode", "max_length", "max_batch_tokens"),
            f"max_batch_tokens is {config.max_batch_tokens}, and one request may hold {needed} "
            f"(max_length {config.max_length}); raise it, or lower max_length",
        )


def _precision_that_workers_lack(config: SetupConfig) -> Iterator[Contradiction]:
    """A precision that workers of this config could not have."""
    asked = config.precision
    mode = MODES[config.mode]
    if asked == "float32" or (isinstance(mode, Writes) and asked not in mode.precisions):
        return
    device = ONLY_ON.get(asked, config.device.partition(":")[0])
    needed = {"save_mode": "torchscript", "packed_weights": True, "device": device}
    for key, value in needed.items():
        mine = getattr(config, key)
        if mine != value and not (key == "device" and mine.startswith(device)):
            yield Contradiction(
                ("precision", key),
                f'precision: "{asked}" needs {key} {json.dumps(value)}, and it is '
                f'{json.dumps(mine)}; change one of the two ("float32" works everywhere)',
            )


def _nothing_to_explain(config: SetupConfig) -> Iterator[Contradiction]:
    if config.captum_explanation and not MODES[config.mode].explained:
        yield Contradiction(
            ("mode", "captum_explanation"),
            f"captum_explanation: answers of {config.mode} have no score to explain; set it to "
            "false",
        )


RULES: tuple[Callable[[SetupConfig], Iterator[Contradiction]], ...] = (
    _settings_of_other_modes,
    _what_cannot_be_written,
    _precision_that_workers_lack,
    _nothing_to_explain,
)
