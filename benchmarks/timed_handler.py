"""The handler of an archive with a watch on its stages; TorchServe loads it in a worker.

It stands in for the archive's own handler, which it finds under the name `served_handler`. Every
answer gets a Server-Timing header with the milliseconds of each stage of the worker's call that it
was part of. Source: https://www.w3.org/TR/server-timing/
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

SERVING = "torchscript_bundle.serving"
#: Stage -> the functions whose time is its own. "run" also holds "pad".
STAGES = {
    "decode": (
        *("torchserve.worker:read_request", "service:decode_body"),
        "api.protocols.native:Native.read",
    ),
    "tokenize": ("text.tokenizer:TextEncoder.encode",),
    "pad": ("engine.runtime:plan_passes", "engine.padding:Collator.collate"),
    "run": ("engine.runtime:Runtime.run",),
    "encode": ("service:Service._respond", "torchserve.worker:write_response"),
}


class TimedHandler:
    """The served handler, timed."""

    def initialize(self, context: Any) -> None:
        """Loads what is served, then puts the watch on."""
        self._served = importlib.import_module("served_handler").TransformerHandler()
        self._served.initialize(context)
        self._took = dict.fromkeys(STAGES, 0.0)
        for stage, names in STAGES.items():
            for name in names:
                self._watch(stage, name)

    def handle(self, data: list[Any], context: Any) -> list[bytes]:
        """The served handler's answers."""
        self._took.update(dict.fromkeys(STAGES, 0.0))
        started = time.perf_counter()
        answers: list[bytes] = self._served.handle(data, context)
        total = time.perf_counter() - started
        for index in range(len(data)):
            context.set_response_header(index, "Server-Timing", self._header(total))
        return answers

    def _header(self, total: float) -> str:
        took = {**self._took, "handler": total}
        took["forward"] = took.pop("run") - took["pad"]
        return ", ".join(f"{name};dur={seconds * 1000:.4f}" for name, seconds in took.items())

    def _watch(self, stage: str, name: str) -> None:
        """Counts a function's time as the stage's."""
        module, _, path = name.partition(":")
        owner: Any = importlib.import_module(f"{SERVING}.{module}")
        *parents, last = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, last, self._timed(stage, getattr(owner, last)))

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._took[stage] += time.perf_counter() - started

        return run
