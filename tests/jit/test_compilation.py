"""Trees of modules, each compiled as it says."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch.jit import ScriptModule, TracerWarning, TracingCheckError

from torchscript_bundle.jit.compilation import (
    compile,
    readable_names,
    script,
    trace,
    trace_module,
)
from torchscript_bundle.jit.examples import MethodInputs, TensorSpec
from torchscript_bundle.jit.modes import compile_mode, get_compile_mode, set_compile_mode
from torchscript_bundle.jit.tracing import load, save

CPU = torch.device("cpu")
UP, DOWN = torch.ones(4, 3), -torch.ones(5, 3)
BOTH = pytest.mark.parametrize("rows", [UP, DOWN], ids=["up", "down"])
EXAMPLE = (torch.full((2, 3), 0.5),)


class Branch(torch.nn.Module):
    """Control flow that depends on data; undecorated."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, 3]` -> `[batch, 3]`."""
        if bool(rows.sum() > 0):
            return self.linear(rows)
        return rows - 1


@compile_mode("script")
class ScriptedBranch(Branch):
    pass


@compile_mode("trace")
class TracedPython(torch.nn.Module):
    """Python that the compiler refuses and the tracer follows."""

    input_specs = (TensorSpec(("batch", 3)),)

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)

    def forward(self, *rows, **_):  # type: ignore[no-untyped-def]
        """`[batch, 3]` -> `[batch, 3]`."""
        return next(map(self.linear, rows))


@compile_mode("unsupported")
class Unsupported(Branch):
    pass


@compile_mode("script")
class CannotBeScripted(torch.nn.Module):
    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        yield rows  # type: ignore[misc]


class Parent(torch.nn.Module):
    """Two children and control flow of its own; undecorated."""

    def __init__(self, first: torch.nn.Module, second: torch.nn.Module) -> None:
        super().__init__()
        self.first = first
        self.second = second

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, 3]` -> `[batch, 3]`."""
        rows = self.second(self.first(rows))
        if bool(rows.max() > 100):
            rows = rows.clamp(max=100)
        return rows


class Chain(Parent):
    """Without control flow of its own."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, 3]` -> `[batch, 3]`."""
        return self.second(self.first(rows))


class Deep(torch.nn.Module):
    """Undecorated modules around what is inside."""

    def __init__(self, inside: torch.nn.Module) -> None:
        super().__init__()
        layer = torch.nn.ModuleDict({"router": inside})
        self.encoder = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([layer])})

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, 3]` -> `[batch, 3]`."""
        return self.encoder["layers"][0]["router"](rows)


def modules_of(root: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """All of a tree, to see that it is as it was: a module is equal only to itself."""
    return list(root.named_modules(remove_duplicate=False))


def storages(root: torch.nn.Module) -> set[int]:
    return {each.data_ptr() for each in (*root.parameters(), *root.buffers())}


# What becomes of a tree.


def test_undecorated_modules_are_left_alone() -> None:
    root = Parent(Branch(), torch.nn.Linear(3, 3))
    before = modules_of(root)
    assert compile(root) is root
    assert modules_of(root) == before


def test_each_child_is_compiled_as_it_says_however_deep() -> None:
    root = Parent(Deep(ScriptedBranch()), TracedPython())
    linear = torch.nn.Linear(3, 3)
    root.third = linear
    assert compile(root) is root
    router = root.get_submodule("first.encoder.layers.0.router")
    assert isinstance(router, ScriptModule)
    assert isinstance(root.second, ScriptModule)
    assert root.third is linear
    assert type(root.first) is Deep


@BOTH
def test_compiled_tree_answers_as_before(rows: torch.Tensor) -> None:
    root = Parent(Deep(ScriptedBranch()), TracedPython())
    expected = root(rows)
    assert torch.equal(compile(root)(rows), expected)


def test_root_is_compiled_as_it_says() -> None:
    assert isinstance(compile(ScriptedBranch()), ScriptModule)
    assert isinstance(compile(TracedPython()), ScriptModule)


def test_shared_child_is_compiled_once_and_stays_shared(tmp_path: Path) -> None:
    calls: list[int] = []

    class Counts(TracedPython):
        def _make_tracing_inputs(self, count: int) -> list[MethodInputs]:
            calls.append(count)
            return [{"forward": EXAMPLE}]

    shared = Counts()
    root = Chain(Chain(shared, shared), shared)
    expected = root(UP)
    compiled = script(root)
    assert calls == [1]
    assert compiled.first.first is compiled.first.second is compiled.second
    assert torch.equal(compiled(UP), expected)
    save(compiled, tmp_path / "module.pt")
    assert len(list(load(tmp_path / "module.pt", CPU).parameters())) == 2


def test_shared_child_is_shared_in_a_traced_parent_too() -> None:
    shared = ScriptedBranch()
    root = Chain(shared, Chain(shared, shared))
    compiled = trace(root, EXAMPLE, in_place=False)
    assert len(list(compiled.parameters())) == 2
    assert storages(compiled) == storages(root)
    for rows in (UP, DOWN):
        assert torch.equal(compiled(rows), root(rows))


def test_children_that_are_none_are_passed_over() -> None:
    root = Parent(ScriptedBranch(), Branch())
    root.register_module("absent", None)
    assert isinstance(compile(root).first, ScriptModule)


def test_compiled_modules_are_left_alone() -> None:
    compiled = script(Branch())
    root = Parent(compiled, TracedPython())
    compile(root)
    assert root.first is compiled
    assert compile(compiled) is script(compiled) is trace(compiled, EXAMPLE) is compiled
    again = root.second
    assert compile(root).second is again


# Control flow that depends on data.


@BOTH
def test_scripted_child_keeps_its_branches_in_a_traced_parent(rows: torch.Tensor) -> None:
    root = Chain(ScriptedBranch(), torch.nn.Linear(3, 3))
    compiled = trace(root, EXAMPLE, in_place=False)
    assert torch.equal(compiled(rows), root(rows))


@BOTH
def test_scripted_parent_keeps_its_branches_around_a_traced_child(rows: torch.Tensor) -> None:
    root = Parent(TracedPython(), torch.nn.Linear(3, 3))
    for scale in (1.0, 1e4):
        compiled = script(root, in_place=False)
        assert torch.equal(compiled(rows * scale), root(rows * scale))
    assert {bool(root(UP * scale).max() > 99) for scale in (1.0, 1e6, -1e6)} == {True, False}


@BOTH
def test_three_levels_script_in_trace_in_script(rows: torch.Tensor, tmp_path: Path) -> None:
    middle = Chain(ScriptedBranch(), TracedPython())
    set_compile_mode(middle, "trace")
    middle.input_specs = TracedPython.input_specs  # type: ignore[assignment]
    root = Parent(middle, ScriptedBranch())
    compiled = script(root, in_place=False)
    save(compiled, tmp_path / "module.pt")
    loaded = load(tmp_path / "module.pt", CPU)
    for each in (rows, rows * 1e4):
        assert torch.equal(compiled(each), root(each))
        assert torch.equal(loaded(each), root(each))


def test_without_a_mode_the_tracer_keeps_one_branch() -> None:
    """What the modes are for."""
    root = Chain(Branch(), torch.nn.Linear(3, 3))
    with pytest.warns(TracerWarning, match="Python boolean"):
        compiled = trace(root, EXAMPLE, in_place=False)
    assert torch.equal(compiled(UP), root(UP))
    assert not torch.equal(compiled(DOWN), root(DOWN))


# In place, or on a copy.


def test_in_place_children_are_replaced_in_the_module_that_was_given() -> None:
    root = Parent(ScriptedBranch(), TracedPython())
    compiled = script(root)
    assert root.first is compiled.first
    assert root.second is compiled.second


@pytest.mark.parametrize("compiler", [compile, script])
def test_a_copy_leaves_the_module_and_shares_its_tensors(
    compiler: Callable[..., torch.nn.Module],
) -> None:
    root = Parent(Deep(ScriptedBranch()), torch.nn.BatchNorm1d(3)).eval()
    before = modules_of(root)
    compiled = compiler(root, in_place=False)
    assert compiled is not root
    assert modules_of(root) == before
    router = dict(compiled.named_modules())["first.encoder.layers.0.router"]
    assert isinstance(router, ScriptModule)
    assert storages(compiled) == storages(root)
    with torch.no_grad():
        root.second.bias += 1
    assert torch.equal(compiled(UP), root(UP))


def test_a_copy_keeps_a_shared_child_shared_and_compiled_modules_themselves() -> None:
    shared, done = ScriptedBranch(), script(Branch())
    root = Parent(Chain(shared, done), shared)
    copied = compile(root, in_place=False)
    assert copied.first.first is copied.second
    assert copied.first.second is done
    assert root.first.first is root.second is shared


@pytest.mark.parametrize(
    "root",
    [
        Parent(Branch(), torch.nn.Linear(3, 3)),
        Parent(script(ScriptedBranch()), torch.nn.Linear(3, 3)),
        ScriptedBranch(),
        TracedPython(),
    ],
)
def test_no_copy_is_made_where_no_child_would_be_replaced(
    root: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("copied")

    monkeypatch.setattr(copy, "deepcopy", refuse)
    mode = get_compile_mode(root)
    compiled = compile(root, in_place=False)
    assert (compiled is root) == (mode is None)


# The mode of the root, for one call.


@pytest.mark.parametrize("mode", ["script", "trace", None])
def test_the_roots_own_mode_is_the_same_after_a_call(mode: str | None) -> None:
    root = Chain(Branch(), TracedPython())
    if mode is not None:
        set_compile_mode(root, mode)  # type: ignore[arg-type]
    state = dict(vars(root))
    assert isinstance(script(root, in_place=False), ScriptModule)
    with pytest.warns(TracerWarning):
        assert isinstance(trace(root, EXAMPLE, in_place=False), ScriptModule)
    assert vars(root) == state
    assert get_compile_mode(root) == mode


@pytest.mark.parametrize("mode", ["script", "trace", None])
def test_the_roots_own_mode_is_the_same_after_an_error(mode: str | None) -> None:
    root = CannotBeScripted()
    set_compile_mode(root, mode)  # type: ignore[arg-type]
    with pytest.raises(torch.jit.frontend.UnsupportedNodeError):
        script(root)
    with pytest.raises(Exception, match=r"[Tt]racer|traced"):
        trace(root, EXAMPLE)
    assert get_compile_mode(root) == mode


# Errors: whole or not at all.


@pytest.fixture(params=["child", "root"])
def broken(request: pytest.FixtureRequest) -> Iterator[torch.nn.Module]:
    """A tree whose first children compile, and whose last child or root does not."""
    bad = CannotBeScripted()
    root = Parent(Deep(ScriptedBranch()), Chain(TracedPython(), ScriptedBranch()))
    if request.param == "child":
        root.third = bad
    else:
        root = type("Bad", (CannotBeScripted,), {})()
        root.first, root.second = Deep(ScriptedBranch()), TracedPython()
    return root


def test_what_was_replaced_is_put_back_when_a_module_fails(broken: torch.nn.Module) -> None:
    before = modules_of(broken)
    with pytest.raises(torch.jit.frontend.UnsupportedNodeError):
        compile(broken)
    assert modules_of(broken) == before


def test_the_error_says_where_it_was_raised() -> None:
    root = Deep(CannotBeScripted())
    with pytest.raises(torch.jit.frontend.UnsupportedNodeError) as raised:
        compile(root)
    note = "in encoder.layers.0.router (CannotBeScripted), compile mode 'script'"
    assert raised.value.__notes__ == [note]


@pytest.mark.parametrize("compiler", [compile, script])
def test_unsupported_is_refused_by_its_place_before_anything_is_compiled(
    compiler: Callable[..., torch.nn.Module],
) -> None:
    root = Parent(ScriptedBranch(), Deep(Unsupported()))
    before = modules_of(root)
    says = r"second\.encoder\.layers\.0\.router \(Unsupported\) does not support TorchScript"
    with pytest.raises(NotImplementedError, match=says):
        compiler(root)
    assert modules_of(root) == before


def test_unsupported_root_is_refused_whatever_the_call_wants() -> None:
    for call in (compile, script, lambda module: trace(module, EXAMPLE)):
        with pytest.raises(NotImplementedError, match=r"^Unsupported does not support"):
            call(Unsupported())


def test_traced_module_without_inputs_is_named_with_its_place() -> None:
    inside = Branch()
    set_compile_mode(inside, "trace")
    with pytest.raises(
        ValueError, match=r"^encoder\.layers\.0\.router \(Branch\) has no inputs to be traced with"
    ):
        compile(Deep(inside))
    with pytest.raises(ValueError, match=r"^Branch has no inputs to be traced with"):
        compile(inside)


# Example inputs.


@compile_mode("trace")
class TracedBranch(Branch):
    input_specs = (TensorSpec(("batch", 3)),)

    def __init__(self, *signs: int) -> None:
        super().__init__()
        self.signs = signs

    def _make_tracing_inputs(self, count: int) -> list[MethodInputs]:
        return [{"forward": (UP * sign,)} for sign in self.signs[:count]]


@compile_mode("trace")
class KeepsBatch(torch.nn.Module):
    """Its trace keeps the number of rows as a constant."""

    input_specs = (TensorSpec(("batch", 3)),)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows / len(rows.tolist())


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_more_examples_check_that_the_graph_stays_the_same() -> None:
    assert isinstance(compile(TracedBranch(1, -1)), ScriptModule)
    assert isinstance(compile(TracedBranch(1, 1), examples=2), ScriptModule)
    with pytest.raises(TracingCheckError, match="Graphs differed"):
        compile(TracedBranch(1, -1), examples=2)
    with pytest.raises(TracingCheckError):
        compile(KeepsBatch(), examples=2)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_check_inputs_check_that_the_graph_stays_the_same() -> None:
    assert isinstance(trace(Branch(), (UP,)), ScriptModule)
    assert isinstance(trace(Branch(), (UP,), [(UP * 2,), (UP[:2],)]), ScriptModule)
    with pytest.raises(TracingCheckError, match="Graphs differed"):
        trace(Branch(), (UP,), [(UP * 2,), (DOWN,)])


def test_nothing_is_traced_twice_without_check_inputs() -> None:
    calls: list[int] = []

    class Counts(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return rows

    trace(Counts(), EXAMPLE)
    assert len(calls) == 1


def test_declared_inputs_are_taken_where_none_are_given() -> None:
    module = TracedPython()
    compiled = trace(module)
    assert torch.equal(compiled(DOWN), module(DOWN))


def test_inputs_that_are_given_come_before_declared_ones() -> None:
    module = TracedPython()
    module.input_specs = (TensorSpec(("batch", 7)),)
    assert torch.equal(trace(module, EXAMPLE)(UP), module(UP))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_inputs_are_put_into_the_modules_dtype(dtype: torch.dtype) -> None:
    module = TracedPython().to(dtype)
    for compiled in (compile(module), trace(module, EXAMPLE)):
        assert compiled(UP.to(dtype)).dtype == dtype


def test_tracing_records_no_gradients() -> None:
    seen: list[bool] = []

    class Looks(torch.nn.Module):
        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            seen.append(torch.is_grad_enabled())
            return rows

    trace(Looks(), EXAMPLE)
    assert seen == [False]


# Several methods.


class TwoMethods(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = ScriptedBranch()
        self.linear = torch.nn.Linear(3, 3)

    def prefill(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(self.branch(rows))

    def step(self, rows: torch.Tensor, count: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"rows": self.linear(rows) * count}


def test_methods_are_traced_with_their_weights_shared(tmp_path: Path) -> None:
    module = TwoMethods()
    inputs = {"prefill": EXAMPLE, "step": (*EXAMPLE, torch.tensor(2))}
    compiled = trace_module(module, inputs, in_place=False, strict=False)
    save(compiled, tmp_path / "module.pt")
    assert storages(compiled) == storages(module)
    for each in (compiled, load(tmp_path / "module.pt", CPU)):
        assert len(list(each.parameters())) == 4
        for rows in (UP, DOWN):
            assert torch.equal(each.prefill(rows), module.prefill(rows))
            three = torch.tensor(3)
            assert torch.equal(each.step(rows, three)["rows"], module.step(rows, three)["rows"])


def test_outputs_that_are_dicts_need_strict_off() -> None:
    with pytest.raises(RuntimeError, match="strict"):
        trace_module(TwoMethods(), {"step": (*EXAMPLE, torch.tensor(2))})


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_check_inputs_of_several_methods() -> None:
    class Branches(Branch):
        def other(self, rows: torch.Tensor) -> torch.Tensor:
            return self.linear(rows) if bool(rows.sum() > 0) else rows

    up, down = {"other": (UP,)}, {"other": (DOWN,)}
    assert isinstance(trace_module(Branches(), up, [up]), ScriptModule)
    with pytest.raises(TracingCheckError):
        trace_module(Branches(), up, [up, down])


class Doubles(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """`[batch, 3]` -> `[batch, 2]`."""
        return self.linear(rows) * 2


@pytest.mark.parametrize("compiled_by", [script, trace])
def test_class_of_a_module_named_after_a_digest_can_be_loaded_again(
    tmp_path: Path, compiled_by: object
) -> None:
    kind = type("Remote", (Doubles,), {"__module__": "remote.3f2a.7"})
    module, rows = kind().eval(), torch.ones(4, 3)
    compiled = script(module) if compiled_by is script else trace(module, (torch.ones(2, 3),))
    save(compiled, tmp_path / "module.pt")
    assert torch.equal(load(tmp_path / "module.pt", CPU)(rows), module(rows))
    assert kind.__module__ == "remote.3f2a.7"


def test_names_are_put_back_after_an_error() -> None:
    kind = type("Remote", (Doubles,), {"__module__": "7b.remote"})
    with pytest.raises(ValueError, match="inside"), readable_names(kind()):
        assert kind.__module__ == "_7b.remote"
        raise ValueError("inside")
    assert kind.__module__ == "7b.remote"
