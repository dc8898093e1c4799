"""`python -m tests.serving.raising PLAN`: run computations that raise, and count the errors.

A line on stderr names each computation before it runs, so that the last one tells what the process
died of. stdout ends with a JSON object of counts.
"""

from __future__ import annotations

import json
import random
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch

from tests.serving.raising.emulation import every_precision
from tests.serving.raising.programs import STATEMENTS, write_program
from tests.serving.raising.spoiled import SPOILS
from tests.serving.raising.ways import RAISED, WAYS, Examples, Unable, make
from tests.serving.raising.writers import load_generator, raising_call, write
from torchscript_bundle.serving.artifact import MODULE_FILE, Bundle
from torchscript_bundle.serving.engine.onednn import frozen_graphs

#: What the process may grow by (bytes), so that memory is short where it should be.
ROOM = 700 << 20


@dataclass
class Plan:
    """What to run.

    Attributes:
        folder: for files.
        ways: names in `WAYS`.
        programs: how many of `STATEMENTS`.
        artifacts: folders of models that answer in one pass.
        spoiled: number of wrong calls to each of them, each way.
        writers: folders of models that write.
        calls: number of wrong calls to each of them.
        seed: of all choices.
        attached: leave graphs attached to their modules, to see that such a process dies.
    """

    folder: str
    ways: list[str] = field(default_factory=lambda: list(WAYS))
    programs: int = len(STATEMENTS)
    artifacts: list[str] = field(default_factory=list)
    spoiled: int = 0
    writers: list[str] = field(default_factory=list)
    calls: int = 0
    seed: int = 0
    attached: bool = False

    def dump(self) -> str:
        """Return what `main` reads."""
        return json.dumps(asdict(self))


class Raising:
    """Run computations, and count how each way ends: with a class of errors, or "returned"."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def __call__(self, way: str, label: str, run: Callable[[], object]) -> bool:
        """Tell whether it raised; any error but those of `RAISED` ends the program."""
        print(way, label, sep=": ", file=sys.stderr, flush=True)
        try:
            run()
        except RAISED as error:
            self.counts[f"{way}: {type(error).__name__}"] += 1
            return True
        self.counts[f"{way}: returned"] += 1
        return False


def run_programs(plan: Plan, way: str, raising: Raising) -> None:
    """Run statements, each in its program, in one way."""
    choice = random.Random(plan.seed)
    for kind in choice.sample(list(STATEMENTS), plan.programs):
        program = write_program(kind, Path(plan.folder), choice)
        try:
            run = make(way, program.path, program.examples)
        except Unable as error:
            raising.counts[f"{way}: {error}"] += 1
            continue
        for good, bad in zip(program.examples, program.raising, strict=False):
            before = run(*good)[0].clone()
            assert raising(way, program.kind, lambda: run(*bad)), f"{program.kind} does not raise"  # noqa: B023
            assert torch.equal(before, run(*good)[0]), f"{program.kind} has changed an answer"


def run_artifact(plan: Plan, folder: Path, way: str, raising: Raising) -> None:
    """Call a model with arguments that it cannot compute."""
    choice = random.Random(plan.seed)
    bundle = Bundle.load(folder)
    examples = _examples(bundle)
    try:
        run = make(way, folder / MODULE_FILE, examples)
    except Unable as error:
        raising.counts[f"{way}: {error}"] += 1
        return
    before = run(*examples[1])[0].clone()
    for _ in range(plan.spoiled):
        name = choice.choice(list(SPOILS))
        spoiled = SPOILS[name](choice.choice(examples), choice)
        raising(way, f"{folder.name}, {name}", lambda: run(*spoiled))  # noqa: B023
    assert torch.equal(before, run(*examples[1])[0]), f"{folder.name} answers otherwise"


def _examples(bundle: Bundle) -> Examples:
    lengths = bundle.traced_lengths if not bundle.dynamic_length else (8, 12)
    rows = (1, 3) if bundle.dynamic_batch else (1, 1)
    ids = [
        torch.arange(batch * length).view(batch, length) % 150 + 10
        for batch, length in zip(rows, lengths, strict=False)
    ]
    for each in ids:
        each[:, -1] = 2  # some models look for the end of a text
    count = len(bundle.inputs)
    return [(each, torch.ones_like(each), torch.zeros_like(each))[:count] for each in ids]


def run_writer(plan: Plan, folder: Path, raising: Raising) -> None:
    """Call a generator wrongly."""
    choice = random.Random(plan.seed)
    generator = load_generator(folder)
    before = write(generator)
    for _ in range(plan.calls):
        label, call = raising_call(generator, choice)
        raising("writing", f"{folder.name}, {label}", call)
    assert torch.equal(before, write(generator)), f"{folder.name} writes otherwise"


def run(plan: Plan) -> Iterator[tuple[str, Any]]:
    """Run a plan; yield the counts."""
    raising = Raising()
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
    for way in plan.ways:
        with every_precision() if way in ("bfloat16", "int8") else nullcontext():
            run_programs(plan, way, raising)
            for folder in map(Path, plan.artifacts):
                run_artifact(plan, folder, way, raising)
    for folder in map(Path, plan.writers):
        run_writer(plan, folder, raising)
    yield from sorted(raising.counts.items())


def main(text: str) -> None:
    """Run a plan and print the counts."""
    plan = Plan(**json.loads(text))
    if plan.attached:
        frozen_graphs.detached = lambda graph: graph
    torch.set_num_threads(1)
    with torch.inference_mode():
        print(json.dumps(dict(run(plan))))


if __name__ == "__main__":
    main(sys.argv[1])
