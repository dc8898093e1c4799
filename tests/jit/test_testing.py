"""The assertion fails on each fault that it looks for, and on nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.jit import TracerWarning, TracingCheckError

from torchscript_bundle.jit.examples import MethodInputs, TensorSpec
from torchscript_bundle.jit.modes import compile_mode
from torchscript_bundle.jit.testing import assert_auto_jitable

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
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * 2


def test_other_feature_dimension_must_be_refused_unless_allowed() -> None:
    says = "AnyFeatures takes a last dimension of 4 where it is 3, in argument 0 of `forward`"
    with pytest.raises(AssertionError, match=says):
        assert_auto_jitable(AnyFeatures().eval())
    assert_auto_jitable(AnyFeatures().eval(), strict_shapes=False)


class AnyLength(Good):
    """No argument has a feature dimension."""

    input_specs = (TensorSpec(("batch", "length")), TensorSpec(("batch", 3), torch.int64, high=2))

    def forward(self, rows: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return rows.sum(1) * ids.sum()


def test_dimensions_that_vary_and_integers_are_no_features() -> None:
    assert_auto_jitable(AnyLength().eval())


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
