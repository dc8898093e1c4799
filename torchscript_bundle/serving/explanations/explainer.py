"""Requests for explanations: what they ask, and their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torchscript_bundle.serving.api import fields
from torchscript_bundle.serving.api.guards import bounded, naming_item
from torchscript_bundle.serving.api.http import HTML, HttpResponse, json_response
from torchscript_bundle.serving.api.protocols.call import Call
from torchscript_bundle.serving.artifact import REMAKE, Bundle, ServingOptions
from torchscript_bundle.serving.engine.runtime import Runtime
from torchscript_bundle.serving.errors import ArtifactError, RequestError
from torchscript_bundle.serving.explanations.attribution import Attributor
from torchscript_bundle.serving.explanations.described import describe
from torchscript_bundle.serving.explanations.page import page
from torchscript_bundle.serving.explanations.request import HTML as HTML_FORM
from torchscript_bundle.serving.explanations.request import explained_form
from torchscript_bundle.serving.modes.base import Computed, ForwardMode, Query
from torchscript_bundle.serving.text.tokenizer import Row


@dataclass(frozen=True)
class Wanted:
    """How a request wants its answers explained.

    Attributes:
        items: the request's, without what says what is explained.
        targets: for each of them, the value of each of the mode's parameters that say it.
        steps: of the integration.
        page: an HTML page, rather than JSON.
    """

    items: Sequence[object]
    targets: Sequence[Mapping[str, Any]]
    steps: int
    page: bool


@dataclass(frozen=True)
class Explanation:
    """A request whose answers are known and are yet to be explained.

    Attributes:
        seconds: how long that takes at the present pace of this machine (estimated).
        steps: of the integration.
        run: explains, and returns the response. Before each pass it calls what it is given, which
            may take its time, or raise a RequestError to end it.
    """

    seconds: float
    steps: int
    run: Callable[[Callable[[], None]], HttpResponse]


class Explainer:
    """Explains the answers of one mode.

    Args:
        mode: understands requests and forms answers.
        attributor: runs the module.
        most_steps: of the integration that a request may ask for, and the default.
    """

    def __init__(self, mode: ForwardMode, attributor: Attributor, most_steps: int) -> None:
        self._mode = mode
        self._attributor = attributor
        self.form = explained_form(mode, most_steps)

    def decode(self, call: Call) -> Wanted:
        """Read how a request wants its answers explained.

        Raises:
            RequestError: 422.
        """
        own = fields.read_values(self.form.own, call.parameters)
        items: list[object] = []
        targets = []
        for at, item in enumerate(call.items):
            with naming_item(at, call):
                targets.append(self._target(item, call.parameters))
            items.append(self._without_target(item))
        return Wanted(items, targets, own["n_steps"], own["format"] == HTML_FORM)

    def _target(self, item: object, parameters: Mapping[str, object]) -> dict[str, Any]:
        """Read what is explained of an item: what it says itself, else what the request says."""
        names = self.form.target
        own = {key: item[key] for key in names if key in item} if isinstance(item, dict) else {}
        twice = own.keys() & parameters.keys()
        if twice:
            raise RequestError(422, f"{' and '.join(sorted(twice))} is given twice; send it once")
        return fields.read_values(names, {**parameters, **own})

    def _without_target(self, item: object) -> object:
        if not isinstance(item, dict):
            return item
        return {key: value for key, value in item.items() if key not in self.form.target}

    def check_target(self, query: Query, wanted: Wanted, at: int) -> None:
        """Refuse a target that the item `at` has not, before anything is run.

        Raises:
            RequestError: 422.
        """
        self._mode.check_target(query, wanted.targets[at])

    def begin(
        self,
        call: Call,
        queries: Sequence[Query],
        computed: Sequence[Sequence[Sequence[Computed]]],
        wanted: Wanted,
    ) -> Explanation:
        """Find what is to be explained of a request's answers.

        Args:
            call: the request.
            queries: what the mode understood of each item.
            computed: for each text of each item, its rows.
            wanted: what `decode` gave.

        Raises:
            RequestError: 422 for a target that a text has not.
        """
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
                {
                    "answer": self._mode.encode(*pair),
                    "explanations": [describe(*each) for each in item],
                }
                for pair, item in zip(pairs, explained, strict=True)
            ]
            return bounded(json_response(200, call.reply(answers)))

        rows = [target.row for item in targets for target in item]
        return Explanation(self._attributor.seconds(rows, wanted.steps), wanted.steps, run)


def make_explainer(
    mode: ForwardMode, runtime: Runtime, bundle: Bundle, options: ServingOptions, word: Row
) -> Explainer:
    """An explainer, warmed up.

    Args:
        mode: the artifact's.
        runtime: holds the loaded module.
        bundle: its `bundle.json`.
        options: bounds on what a request may cost.
        word: a tokenized word, to warm up with.

    Raises:
        ArtifactError: the mode has nothing to explain.
    """
    if not mode.target_parameters:
        raise ArtifactError(f"bundle.json: answers of {bundle.mode} are not explained; {REMAKE}")
    rows = options.explanation_batch_size
    attributor = Attributor(runtime.module, bundle, runtime.device, rows)
    attributor.warm_up(word)
    return Explainer(mode, attributor, options.explanation_steps)
