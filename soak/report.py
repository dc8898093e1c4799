"""What a soak saw, and the verdict."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from benchmarks.figures import percentile
from soak.disturb import Disturbed
from soak.kinds import kinds
from soak.losses import Attribution, attribute
from soak.memory import MOST_GROWTH, SETTLED_SECONDS, Memory
from soak.traffic import Seen

#: Wrong answers and unexplained losses that are shown one by one.
SHOWN = 10


@dataclass
class Report:
    """All of a soak.

    Attributes:
        seconds: how long clients sent requests.
        log_bytes: at the start and at the end.
        end_status: of the server after SIGTERM.
        end_seconds: until it had ended.
        left_over: what its processes are for that were there after its end.
    """

    seconds: float = 0.0
    seen: Seen = field(default_factory=Seen)
    disturbed: Disturbed = field(default_factory=Disturbed)
    memory: Memory = field(default_factory=Memory)
    log_bytes: tuple[int, int] = (0, 0)
    end_status: int | None = None
    end_seconds: float = 0.0
    left_over: list[str] = field(default_factory=list)

    @property
    def losses(self) -> Attribution:
        """Lost requests, by the kills that cost them."""
        return attribute(self.seen.lost, self.disturbed.kills)

    def faults(self) -> list[str]:
        """Return what makes the verdict bad, in words."""
        unexplained = len(self.losses.unexplained)
        unseen = [each.name for each in kinds() if not self.seen.right[each.name]]
        grown = [
            f"{role} grew by {growth:.0%} after the first {SETTLED_SECONDS / 60:.0f} minutes"
            for role, growth in (self.memory.growth() or {}).items()
            if growth > MOST_GROWTH
        ]
        found = {
            f"{len(self.seen.wrong)} wrong answers": bool(self.seen.wrong),
            f"{unexplained} requests were lost beyond the kills": unexplained > 0,
            f"never answered right: {', '.join(unseen)}": bool(unseen),
            f"the server ended with status {self.end_status}": self.end_status != 0,
            f"left after its end: {', '.join(self.left_over)}": bool(self.left_over),
        }
        return [*(words for words, bad in found.items() if bad), *self.disturbed.problems, *grown]

    def show(self, console: Console) -> None:
        """Print everything."""
        self._show_requests(console)
        self._show_losses(console)
        self._show_memory(console)
        before, after = self.log_bytes
        rate = (after - before) / max(1, self.seen.sent)
        console.print(
            f"logs: {before / 1e6:.2f} MB at the start, {after / 1e6:.2f} MB at the end, "
            f"{rate:.0f} bytes a request"
        )
        console.print(f"SIGTERM: ended in {self.end_seconds:.1f} s, status {self.end_status}")
        faults = self.faults()
        console.print(f"verdict: {'bad' if faults else 'good'}", *faults, sep="\n  ")

    def _show_requests(self, console: Console) -> None:
        seen = self.seen
        table = Table(title=f"{seen.sent} requests in {self.seconds / 60:.1f} minutes")
        table.add_column("end")
        table.add_column("requests", justify="right")
        for cause, count in sorted(seen.ends.items()):
            table.add_row(cause, str(count))
        table.add_section()
        table.add_row("right", str(sum(seen.right.values())))
        table.add_row("wrong", str(len(seen.wrong)))
        table.add_row("refused, with Retry-After", str(sum(seen.refused.values())))
        table.add_row("lost", str(len(seen.lost)))
        table.add_row("client left", str(seen.left))
        console.print(table)
        if seen.took:
            shares = ", ".join(
                f"p{share} {percentile(seen.took, share) * 1000:.0f}" for share in (50, 90, 99)
            )
            most = max(seen.took) * 1000
            rate = len(seen.took) / max(self.seconds, 1)
            console.print(f"right answers: {rate:.0f} a second; ms: {shares}, most {most:.0f}")
        for kind, outcome in seen.wrong[:SHOWN]:
            console.print(
                f"wrong: {kind.name}: {outcome.cause} {outcome.body[:200]!r}", markup=False
            )

    def _show_losses(self, console: Console) -> None:
        done, losses = self.disturbed, self.losses
        counted = Counter(kill.what for kill in done.kills)
        cost: Counter[str] = Counter()
        most: dict[str, int] = {}
        for kill, count in losses.by_kill.items():
            cost[kill.what] += count
            most[kill.what] = max(most.get(kill.what, 0), count)
        table = Table(title="What was done to the server")
        for column in ("what", "times", "requests it cost", "most at once"):
            table.add_column(column, justify="left" if column == "what" else "right")
        for what in ("worker", "java"):
            row = (str(counted[what]), str(cost[what]), str(most.get(what, 0)))
            table.add_row(f"kill -9 of a {what}", *row)
        table.add_row("new archive, SIGHUP", str(len(done.swaps)), "-", "-")
        table.add_row("lost beyond that", "-", str(len(losses.unexplained)), "-")
        console.print(table)
        for what, seconds in (("new archive", done.swaps), ("answers after a kill", done.back)):
            if seconds:
                middle = percentile(seconds, 50)
                console.print(f"{what}: median {middle:.1f} s, most {max(seconds):.1f} s")
        for model, outcome in losses.unexplained[:SHOWN]:
            after = f"{outcome.cause} after {outcome.seconds:.2f} s"
            console.print(f"lost: {model}: {after} {outcome.body[:200]!r}", markup=False)

    def _show_memory(self, console: Console) -> None:
        memory = self.memory
        if not memory.samples:
            return
        table = Table(title="Memory, MB (PSS)")
        columns = ("process", "start", "after 10 minutes", "end", "growth after 10 minutes")
        for column in columns:
            table.add_column(column, justify="left" if column == "process" else "right")
        grown = memory.growth() or {}
        last = memory.samples[-1][0]
        for role in memory.roles():
            times = ((0, 1), (SETTLED_SECONDS, SETTLED_SECONDS + 60), (last, last))
            held = (memory.at(role, first, until) for first, until in times)
            words = ("-" if each is None else f"{each:.0f}" for each in held)
            growth = f"{grown[role]:+.1%}" if role in grown else "too short to say"
            table.add_row(role, *words, growth)
        console.print(table)
