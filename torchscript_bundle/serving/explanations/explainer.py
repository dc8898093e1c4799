"""Requests for explanations: what they ask, and their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torchscript_bundle.serving.artifact import REMAKE, Bundle, ServingOptions
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.explanations.answer import describe
from torchscript_bundle.serving.explanations.attribution import Attributor
from torchscript_bundle.serving.explanations.page import page
from torchscript_bundle.serving.http import HTML, HttpResponse, json_response
from torchscript_bundle.serving.modes.base import Computed, Explains, Mode, Query
from torchscript_bundle.serving.protocols.call import Call
from torchscript_bundle.serving.runtime import Runtime
from torchscript_bundle.serving.texts import check_choice, check_whole
from torchscript_bundle.serving.tokenization import Row

STEPS = "n_steps"
LEAST_STEPS = 2
FORMAT = "format"
FORMATS = ("json", "html")


@dataclass(frozen=True)
class Form:
    """What a request for an explanation may hold, as a mode says what one for an answer may."""

    item_keys: Sequence[str]
    parameters: Sequence[str]


@dataclass(frozen=True)
class Wanted:
    """How a request wants its answers explained.

    Attributes:
        parameters: all of the request's, those of the mode among them.
        steps: of the integration.
        page: an HTML page, rather than JSON.
    """

    parameters: Mapping[str, object]
    steps: int
    page: bool


class Explainer:
    """Explains the answers of one mode.

    Args:
        mode: understands requests and forms answers.
        explains: the same mode, which says what numbers are behind an answer.
        attributor: runs the module.
        most_steps: of the integration that a request may ask for, and the default.
    """

    def __init__(
        self, mode: Mode, explains: Explains, attributor: Attributor, most_steps: int
    ) -> None:
        self._mode = mode
        self._explains = explains
        self._attributor = attributor
        self._most_steps = most_steps
        own = (*explains.target_parameters, STEPS, FORMAT)
        self.form = Form(mode.item_keys, (*mode.parameters, *own))

    def decode(self, parameters: Mapping[str, object]) -> Wanted:
        """Reads how a request wants its answers explained.

        Raises:
            RequestError: 422.
        """
        form = check_choice(parameters.get(FORMAT, FORMATS[0]), FORMAT, FORMATS)
        asked = parameters.get(STEPS, self._most_steps)
        steps = check_whole(asked, STEPS, LEAST_STEPS, self._most_steps)
        return Wanted(parameters, steps, form == "html")

    def check_target(self, query: Query, wanted: Wanted) -> None:
        """Refuses a target that an item has not, before anything is run.

        Raises:
            RequestError: 422.
        """
        self._explains.check_target(query, wanted.parameters)

    def answer(
        self,
        call: Call,
        queries: Sequence[Query],
        computed: Sequence[Sequence[Sequence[Computed]]],
        wanted: Wanted,
        deadline: float,
    ) -> HttpResponse:
        """The answers to a request's items, with what is behind each.

        Args:
            call: the request.
            queries: what the mode understood of each item.
            computed: for each text of each item, its rows.
            wanted: what `decode` gave.
            deadline: `time.monotonic()` after which no further pass is begun.

        Raises:
            RequestError: 422 for a target that a text has not, 503 at the deadline.
        """
        pairs = list(zip(queries, computed, strict=True))
        targets = [self._explains.targets(*pair, wanted.parameters) for pair in pairs]
        flat = [target for item in targets for target in item]
        found = iter(self._attributor.attribute(flat, wanted.steps, deadline))
        explained = [[(target, next(found)) for target in item] for item in targets]
        if wanted.page:
            return HttpResponse(200, HTML, page(explained).encode("utf-8"))
        answers = [
            {"answer": self._mode.encode(*pair), "explanations": [describe(*each) for each in item]}
            for pair, item in zip(pairs, explained, strict=True)
        ]
        return json_response(200, call.reply(answers))


def make_explainer(
    mode: Mode, runtime: Runtime, bundle: Bundle, options: ServingOptions, word: Row
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
    if not isinstance(mode, Explains):
        raise ArtifactError(f"bundle.json: answers of {bundle.mode} are not explained; {REMAKE}")
    rows = options.explanation_batch_size
    attributor = Attributor(runtime.module, bundle, runtime.device, rows)
    attributor.warm_up(word)
    return Explainer(mode, mode, attributor, options.explanation_steps)
