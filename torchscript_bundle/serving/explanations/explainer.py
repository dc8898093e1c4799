"""Requests for explanations, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.guards import bounded, naming_item
from torchscript_bundle.serving.api.http import HTML, HttpResponse
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.artifact import REMAKE, Bundle, ServingOptions
from torchscript_bundle.serving.engine.runtime import Runtime
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.attribution import Attributor
from torchscript_bundle.serving.explanations.page import page
from torchscript_bundle.serving.explanations.request import HTML as HTML_FORMAT
from torchscript_bundle.serving.explanations.request import explanation_fields
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Query
from torchscript_bundle.serving.text.tokenizer import Row


@dataclass(frozen=True)
class Wanted:
    """The explanation that a request wants.

    `items` are the request's, without their targets; `targets` the values of the mode's target
    parameters for each item; `page` wants an HTML page instead of JSON.
    """

    items: Sequence[object]
    targets: Sequence[Mapping[str, Any]]
    steps: int
    page: bool


@dataclass(frozen=True)
class Explanation:
    """A request with known answers that are not explained yet.

    `seconds` is estimated at this machine's present pace. `run` returns the response and calls its
    argument before each pass, which may block, or raise RequestError to end the explanation.
    """

    seconds: float
    steps: int
    run: Callable[[Callable[[], None]], HttpResponse]


class Explainer:
    """Explains the answers of a mode; `most_steps` bounds the integration and is its default."""

    def __init__(self, mode: ForwardMode, attributor: Attributor, most_steps: int) -> None:
        self._mode = mode
        self._attributor = attributor
        self.form = explanation_fields(mode, most_steps)

    def decode(self, call: Call) -> Wanted:
        """Read the explanation that a request wants."""
        own = fields.read_values(self.form.own, call.parameters)
        items: list[object] = []
        targets = []
        for at, item in enumerate(call.items):
            with naming_item(at, call):
                targets.append(self._target(item, call.parameters))
            if isinstance(item, dict):
                item = {key: value for key, value in item.items() if key not in self.form.target}
            items.append(item)
        return Wanted(items, targets, own["n_steps"], own["format"] == HTML_FORMAT)

    def _target(self, item: object, parameters: Mapping[str, object]) -> dict[str, Any]:
        names = self.form.target
        own = {key: item[key] for key in names if key in item} if isinstance(item, dict) else {}
        twice = own.keys() & parameters.keys()
        if twice:
            raise RequestError(422, f"{' and '.join(sorted(twice))} is given twice; send it once")
        return fields.read_values(names, {**parameters, **own})

    def check_target(self, query: Query, wanted: Wanted, at: int) -> None:
        """Refuse an impossible target of the item `at`, before anything runs."""
        self._mode.check_target(query, wanted.targets[at])

    def begin(
        self,
        call: Call,
        queries: Sequence[Query],
        computed: Sequence[Sequence[Sequence[Computed]]],
        wanted: Wanted,
    ) -> Explanation:
        """Find the targets of answers; `computed` has the rows of each text of each item."""
        pairs = list(zip(queries, computed, strict=True))
        targets = [
            self._mode.targets(*pair, target)
            for pair, target in zip(pairs, wanted.targets, strict=True)
        ]

        def run(pause: Callable[[], None]) -> HttpResponse:
            flat = [target for item in targets for target in item]
            found = iter(self._attributor.attribute(flat, wanted.steps, pause))
            explained = [[(target, next(found)) for target in item] for item in targets]
            if wanted.page:
                return bounded(HttpResponse(200, HTML, page(explained).encode("utf-8")))
            answers = [
                self._mode.explain(*pair, item) for pair, item in zip(pairs, explained, strict=True)
            ]
            return bounded(self._mode.write(call.reply(answers)))

        rows = [target.row for item in targets for target in item]
        return Explanation(self._attributor.seconds(rows, wanted.steps), wanted.steps, run)


def make_explainers(
    modes: Sequence[ForwardMode],
    runtime: Runtime,
    bundle: Bundle,
    options: ServingOptions,
    word: Row,
) -> list[Explainer]:
    """Make explainers for an artifact's mode in each answer form, warmed up with a word."""
    if not all(mode.target_parameters for mode in modes):
        raise ArtifactError(f"bundle.json: answers of {bundle.mode} are not explained; {REMAKE}")
    rows = options.explanation_batch_size
    attributors = {
        layer: Attributor(runtime.module, bundle, runtime.device, rows, layer)
        for layer in {mode.explained_layer for mode in modes}
    }
    for attributor in attributors.values():
        attributor.warm_up(word)
    steps = options.explanation_steps
    return [Explainer(mode, attributors[mode.explained_layer], steps) for mode in modes]
