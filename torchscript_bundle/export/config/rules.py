"""Keys of a config that contradict each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from torchscript_bundle.export.config.settings import SetupConfig
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.serving.artifact import FLOAT32, PRECISIONS

#: The least max_length of a mode that generates: its proof needs room for prompts and answers.
SHORTEST_GENERATED = 16


@dataclass(frozen=True)
class Contradiction:
    """Keys that do not go together; `says` tells which one to change, and to what."""

    keys: tuple[str, ...]
    says: str


def contradictions(config: SetupConfig) -> Iterator[Contradiction]:
    """Find every set of keys that contradict each other."""
    yield from _settings_of_other_modes(config)
    yield from _what_cannot_be_generated(config)
    yield from _precision_that_workers_lack(config)
    if config.answer_form not in config.task.answer_forms:
        yield Contradiction(
            ("mode", "answer_form"),
            f"answer_form: the TorchServe example never answered {config.mode}, only "
            f"{', '.join(_modes_with(config.answer_form))}; remove the key",
        )
    if config.captum_explanation and not config.task.explained:
        yield Contradiction(
            ("mode", "captum_explanation"),
            f"captum_explanation: answers of {config.mode} have no score to explain; set it to "
            "false",
        )


def _modes_with(answer_form: str) -> list[str]:
    return [name for name, task in TASKS.items() if answer_form in task.answer_forms]


def _settings_of_other_modes(config: SetupConfig) -> Iterator[Contradiction]:
    for key in {key: None for task in TASKS.values() for key in task.settings}:
        default = type(config).model_fields[key].default
        if key not in config.task.settings and getattr(config, key) != default:
            readers = " and ".join(name for name, task in TASKS.items() if key in task.settings)
            yield Contradiction(
                ("mode", key), f"{key} is for the mode {readers}; remove it for {config.mode}"
            )


def _what_cannot_be_generated(config: SetupConfig) -> Iterator[Contradiction]:
    if not config.task.generates:
        return
    if config.precision not in config.task.precisions:
        yield Contradiction(
            ("mode", "precision"),
            f"precision: {config.mode} is served in {' or '.join(config.task.precisions)}, not in "
            f"{config.precision}",
        )
    if config.padding != "longest":
        yield Contradiction(
            ("mode", "padding"), f'padding: {config.mode} has no other than "longest"'
        )
    if config.max_length < SHORTEST_GENERATED:
        yield Contradiction(
            ("mode", "max_length"),
            f"max_length is {config.max_length}; {config.mode} needs at least "
            f"{SHORTEST_GENERATED}, for a text and its answer",
        )
    needed = config.task.request_tokens(config.max_length)
    if config.max_batch_tokens < needed:
        yield Contradiction(
            ("mode", "max_length", "max_batch_tokens"),
            f"max_batch_tokens is {config.max_batch_tokens}, and one request may hold {needed} "
            f"(max_length {config.max_length}); raise it, or lower max_length",
        )


def _precision_that_workers_lack(config: SetupConfig) -> Iterator[Contradiction]:
    asked = config.precision
    if asked == FLOAT32 or asked not in config.task.precisions:
        return
    own = config.device.partition(":")[0]
    kinds = PRECISIONS[asked].devices if asked in PRECISIONS else (own,)
    device = own if own in kinds else kinds[0]
    needed = {"save_mode": "torchscript", "packed_weights": True, "device": device}
    for key, value in needed.items():
        mine = getattr(config, key)
        if mine != value and not (key == "device" and mine.startswith(device)):
            yield Contradiction(
                ("precision", key),
                f'precision: "{asked}" needs {key} {json.dumps(value)}, and it is '
                f'{json.dumps(mine)}; change one of the two ("float32" works everywhere)',
            )
