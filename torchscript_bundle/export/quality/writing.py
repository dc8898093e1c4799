"""Rehearse a worker whose model writes: the logits of each next token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchscript_bundle.export.quality.decisions import Item, RowOutputs
from torchscript_bundle.export.quality.rehearsal import Rehearsal, as_request, refusal
from torchscript_bundle.export.quality.texts import Line
from torchscript_bundle.serving.api.http import HttpResponse
from torchscript_bundle.serving.artifact import Bundle
from torchscript_bundle.serving.engine.precisions import Running
from torchscript_bundle.serving.generation.generation_service import GenerationService

#: Tokens that are written after each prompt.
NEW = 8


@dataclass
class Prompts:
    """The tokens of each prompt of one request.

    `written` are the next tokens, int64 `[prompts]` each, of the first worker; the other workers
    read them too, so that logits of the same texts are compared.
    """

    prompts: list[Sequence[int]]
    written: list[Tensor] = field(default_factory=list)


class WritingRehearsal(Rehearsal):
    """Rehearses a model that writes."""

    def _start(self, folder: Path, device: torch.device) -> Running:
        self._bundle = Bundle.load(folder)
        self._service = GenerationService(folder, device)
        return self._service.running

    def read(self, line: Line) -> Prompts | str:
        opened = self._service.open(as_request(line))
        if isinstance(opened, HttpResponse):
            return refusal(opened)
        self._service.close(opened)
        self._service.step()
        return Prompts([answer.prompt for answer in opened.answers])

    @torch.inference_mode()
    def compute(self, requests: Sequence[Prompts]) -> list[list[Item]]:
        return [self._write(request) for request in requests]

    def _write(self, request: Prompts) -> list[Item]:
        """Continue the prompts of a request, padded to the longest of them."""
        generator, first = self._service.generator, not request.written
        logits, cache = self._service.prefill(request.prompts, NEW)
        steps = [logits]
        for at in range(self._room(generator, request.prompts)):
            if first:
                request.written.append(logits.argmax(1))
            logits, cache = generator.step(request.written[at], cache)
            steps.append(logits)
        rows = torch.stack(steps, dim=1).float().cpu()
        return [[RowOutputs((row,), torch.zeros(0, dtype=torch.bool))] for row in rows]

    def _room(self, generator: Any, prompts: Sequence[Sequence[int]]) -> int:
        taken = 1 if generator.start_id >= 0 else max(map(len, prompts))
        return min(NEW, self._bundle.max_length - taken)
