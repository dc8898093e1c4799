"""The proof of a generator in the form that every artifact's has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torchscript_bundle.export.claims import Claim
from torchscript_bundle.export.generation.eager_oracle import dictated_logits
from torchscript_bundle.export.generation.facts import GeneratorFacts
from torchscript_bundle.export.generation.maker import GeneratorProof, compare_all
from torchscript_bundle.export.generation.trials import Trial
from torchscript_bundle.export.proof import Proof
from torchscript_bundle.jit.verify import Case, Report


@dataclass
class WritingProof(Proof):
    """See `Proof`. Each case belongs to a trial, which says what is done with its inputs.

    Attributes:
        made: the generator as it was made, with its trials.
    """

    made: GeneratorProof = field(kw_only=True)

    def in_words(self) -> str:
        """What holds, for people."""
        return self.made.in_words()

    def compare(self, module: Any, title: str) -> Report:
        """Puts another module to the same trials.

        Raises:
            ExportError: it writes otherwise; the message names the shape.
        """
        return _joined(compare_all(module, self.made.trials))

    def as_dict(self) -> dict[str, Any]:
        """The proof as `bundle.json` keeps it: each case names its trial."""
        names = [trial.name for trial in self.made.trials for _ in trial.cases]
        cases = zip(names, self.report.results, strict=True)
        return {
            **super().as_dict(),
            "cases": [{"trial": name, **asdict(result)} for name, result in cases],
            "settings_not_followed": list(self.made.facts.ignored),
        }


def writing_proof(model: Any, made: GeneratorProof) -> WritingProof:
    """What `make_generator` proved of a model, with how far padding changes the model's answers."""
    return WritingProof(
        module=made.module,
        claim=Claim(dynamic_batch=True, dynamic_length=True),
        lengths=(made.facts.max_length,),
        cases=[case for trial in made.trials for case in trial.cases],
        report=_joined(made.reports),
        padding_effect=_padding_effect(model, made.facts, made.trials),
        warnings=made.warnings,
        made=made,
    )


def _joined(reports: Sequence[Report]) -> Report:
    return Report(tuple(result for report in reports for result in report.results))


def _padding_effect(model: Any, facts: GeneratorFacts, trials: Sequence[Trial]) -> float:
    """How far the model's logits for a padded row are from those for it alone, to their scale."""
    padded = max(filter(_is_padded, trials[0].cases), key=lambda case: case.shape.length)
    ids, mask, tokens = padded.inputs
    real = mask[0] == 1
    alone = dictated_logits(model, facts, ids[:1, real], mask[:1, real], tokens[:1])
    together = padded.expected[0][:1]
    return float((together - alone).abs().max() / alone.abs().max())


def _is_padded(case: Case) -> bool:
    return not bool(case.inputs[1][0].all())
