"""The assertion fails on each fault that it looks for, and on nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch.jit import TracerWarning, TracingCheckError

from tests.jit.helpers import DictMask
from torchscript_bundle.jit.examples import MethodInputs, TensorSpec
from torchscript_bundle.jit.modes import compile_mode, set_compile_mode
from torchscript_bundle.jit.testing import assert_auto_jitable
from torchscript_bundle.jit.types import DataclassAsTuple

ROWS = TensorSpec(("batch", 3))


@compile_mode("trace")
class Good(torch.nn.Module):
    input_specs: tuple[TensorSpec, ...] = (ROWS,)

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, 3]` -> `[batch, 2]`."""
        return self.linear(rows)


@compile_mode("script")
class GoodScript(Good):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, 3]` -> `[batch, 2]`."""
        if bool(rows.sum() > 0):
            rows = rows * 2
        return self.linear(rows)


class Writes(Good):
    """Into its argument."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows.mul_(2))


class OwnInputs(Good):
    """Two methods; one takes a mask whose last dimension is no feature."""

    def mask(self, rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.linear(rows) * mask.sum()

    def _make_tracing_inputs(self, count: int) -> list[MethodInputs]:
        return [
            {"forward": (torch.randn(4, 3),), "mask": (torch.randn(4, 3), torch.ones(size + 1))}
            for size in range(count)
        ]


@pytest.mark.parametrize("kind", [Good, GoodScript, Writes, OwnInputs])
def test_what_holds_passes_and_is_not_changed(kind: type[Good]) -> None:
    module = kind().eval()
    before = list(module.named_modules())
    compiled = assert_auto_jitable(module)
    assert isinstance(compiled, torch.jit.ScriptModule)
    assert list(module.named_modules()) == before


def test_module_on_double_precision_passes() -> None:
    assert_auto_jitable(Good().double().eval())


class KeepsFirst(Good):
    """Hides the number of rows that the trace kept from the tracer's own check."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows) * len(rows.tolist())

    def _make_tracing_inputs(self, count: int) -> list[MethodInputs]:
        return [{"forward": (torch.randn(3 if at < 2 else 2, 3),)} for at in range(count)]


def test_answer_that_differs_on_fresh_inputs_fails() -> None:
    says = "compiled KeepsFirst differs in `forward`"
    with pytest.warns(TracerWarning), pytest.raises(AssertionError, match=says):
        assert_auto_jitable(KeepsFirst().eval(), error_on_warnings=False)


class Branches(Good):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows) if bool(rows.isfinite().all()) else rows


def test_tracer_warning_fails_unless_it_is_allowed() -> None:
    with pytest.raises(AssertionError, match=r"the tracer warned:\n.*Python boolean"):
        assert_auto_jitable(Branches().eval())
    with pytest.warns(TracerWarning, match="Python boolean"):
        assert_auto_jitable(Branches().eval(), error_on_warnings=False)


class KeepsRows(Good):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows) * len(rows.tolist())


def test_graph_that_depends_on_the_example_fails() -> None:
    with pytest.raises(TracingCheckError):
        assert_auto_jitable(KeepsRows().eval())


class AnyFeatures(Good):
    """Takes whatever comes, eager and compiled."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * 2


class Indexes(Good):
    """Takes more features than it reads, eager and compiled."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(rows[:, [0, 1, 2]])


@pytest.mark.parametrize("kind", [AnyFeatures, Indexes])
def test_other_features_that_the_module_itself_takes_are_taken(kind: type[Good]) -> None:
    assert_auto_jitable(kind().eval())


class Requires(Good):
    """Refuses in Python, of which a trace keeps nothing."""

    sizes: frozenset[int] = frozenset({3})

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.dim() == 2 and int(rows.shape[1]) not in self.sizes:
            raise ValueError("3 features are needed")
        return rows * 2


class TakesFewer(Requires):
    sizes = frozenset({2, 3})


class TakesMore(Requires):
    sizes = frozenset({3, 4})


@pytest.mark.parametrize(("kind", "size"), [(TakesMore, 2), (TakesFewer, 4), (Requires, 2)])
def test_compiled_module_must_refuse_what_the_module_refuses(kind: type[Good], size: int) -> None:
    says = (
        f"compiled {kind.__name__} takes a last dimension of {size} where it is 3, in argument 0 "
        f"of `forward`; {kind.__name__} refuses: 3 features are needed"
    )
    module = kind().eval()
    with pytest.warns(TracerWarning), pytest.raises(AssertionError, match=says):
        assert_auto_jitable(module, error_on_warnings=False)
    with pytest.warns(TracerWarning):
        assert_auto_jitable(module, strict_shapes=False, error_on_warnings=False)


class Expands(Good):
    """Takes any features, while its trace keeps their number."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + torch.ones(len(rows[0].tolist()))


def test_compiled_module_must_take_what_the_module_takes() -> None:
    says = "compiled Expands refuses a last dimension of 2 where it is 3"
    with pytest.warns(TracerWarning), pytest.raises(AssertionError, match=says):
        assert_auto_jitable(Expands().eval(), error_on_warnings=False)


class Scales(Good):
    """Divides by the number of features, of which its trace keeps the example's."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows / len(rows[0].tolist())


def test_compiled_module_must_answer_alike_where_both_take_other_features() -> None:
    says = "compiled Scales differs with a last dimension of 2 where it is 3"
    with pytest.warns(TracerWarning), pytest.raises(AssertionError, match=says):
        assert_auto_jitable(Scales().eval(), error_on_warnings=False)


class AnyLength(Good):
    """No argument has a feature dimension."""

    input_specs = (TensorSpec(("batch", "length")), TensorSpec(("batch", 3), torch.int64, high=2))

    def forward(self, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return rows.sum(1) * ids.sum()


def test_dimensions_that_vary_and_integers_are_no_features() -> None:
    assert_auto_jitable(AnyLength().eval())


class Drops(GoodScript):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(self.linear(rows), 0.5, training=True)


def test_module_that_draws_is_compared_on_the_same_draws() -> None:
    module, state = Drops(), torch.random.get_rng_state()
    assert_auto_jitable(module)
    assert torch.equal(torch.random.get_rng_state(), state)


@compile_mode("script")
class DeclaresNothing(torch.nn.Module):
    """Scripted: no example is needed to compile it."""

    def __init__(self) -> None:
        super().__init__()
        self.child = Good()

    def forward(self, rows: torch.Tensor, names: list[str]) -> torch.Tensor:
        return self.child(rows) * len(names)


def test_scripted_module_needs_no_examples() -> None:
    module = DeclaresNothing().eval()
    compiled = assert_auto_jitable(module)
    rows = torch.ones(4, 3)
    torch.testing.assert_close(compiled(rows, ["a", "b"]), module(rows, ["a", "b"]))


def test_traced_module_needs_examples() -> None:
    module = Good().eval()
    set_compile_mode(module, "trace")
    module.input_specs = None  # type: ignore[assignment]
    with pytest.raises(ValueError, match="Good has no inputs to be traced with"):
        assert_auto_jitable(module)


@compile_mode("unsupported")
class Unsupported(torch.nn.Module):
    pass


def test_unsupported_module_is_called_so() -> None:
    with pytest.raises(NotImplementedError, match="Unsupported does not support TorchScript"):
        assert_auto_jitable(Unsupported())


@pytest.mark.parametrize("wrong", [False, True])
def test_inputs_that_cannot_be_deep_copied_are_no_hindrance(wrong: bool) -> None:
    class Reads(Good):
        def forward(self, mask: Any) -> torch.Tensor:
            size = len(mask["mask"].tolist()) if wrong else mask["mask"].shape[0]
            return mask["mask"].mul_(2) * size

        def _make_tracing_inputs(self, count: int) -> list[MethodInputs]:
            sizes = [3 if at < 2 else 2 for at in range(count)]
            return [{"forward": (DictMask(torch.ones(size, 3)),)} for size in sizes]

    if not wrong:
        assert_auto_jitable(Reads())
        return
    says = "compiled Reads differs in `forward`"
    with pytest.warns(TracerWarning), pytest.raises(AssertionError, match=says):
        assert_auto_jitable(Reads(), error_on_warnings=False)


@dataclass
class Answer(DataclassAsTuple):
    rows: torch.Tensor
    loss: torch.Tensor | None = None


class Typed(Good):
    def forward(self, rows: torch.Tensor) -> Answer:
        return Answer(self.linear(rows)).jit_unwrap()


def test_typed_output_is_compared_with_the_traces_tuple() -> None:
    assert_auto_jitable(Typed().eval())


def test_module_without_a_mode_fails() -> None:
    class Undecorated(torch.nn.Linear):
        input_specs = (ROWS,)

    with pytest.raises(AssertionError, match="Undecorated has no compile mode"):
        assert_auto_jitable(Undecorated(3, 2))


class CannotBeSaved(GoodScript):
    """Calls back into Python, which no file can hold."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.twice(self.linear(rows))

    @torch.jit.ignore
    def twice(self, rows):  # type: ignore[no-untyped-def]
        return rows * 2


def test_module_that_cannot_be_saved_fails() -> None:
    with pytest.raises(RuntimeError, match="Could not export Python function call"):
        assert_auto_jitable(CannotBeSaved().eval())
