"""The arrows between the packages, read off their imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import get_args

import pytest

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.modes import MODES as EXPORTED
from torchscript_bundle.export.save_modes import SAVE_MODES
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.serving.artifact import MODEL_FILES
from torchscript_bundle.serving.engine.loaders import LOADERS
from torchscript_bundle.serving.modes import MODES as SERVED

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "torchscript_bundle"
HANDLER = ROOT / "Transformer_handler_generalized.py"
EAGER = PACKAGE / "serving" / "engine" / "eager.py"
SOURCES = [*sorted(PACKAGE.rglob("*.py")), HANDLER]
STANDARD = set(sys.stdlib_module_names)
UNSAFE = {"eval", "exec", "literal_eval", "__import__"}
UNSAFE_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}

#: The one file that unpickles, where the config says `use_safetensors: false`.
UNPICKLES = {"torchscript_bundle/export/kinds/classifiers.py": ["joblib"]}

each_source = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))


def imports(source: str) -> Iterator[str]:
    """Full names of what is imported, wherever in the file; relative imports start with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def foreign(folder: Path, allowed: set[str], *, without: Path | None = None) -> list[str]:
    """Imports in a folder (or file) of neither the standard library nor what is allowed."""
    paths = [folder] if folder.is_file() else sorted({*folder.rglob("*.py")} - {without})
    assert paths
    return [
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in imports(path.read_text())
        if not within(name, STANDARD | allowed)
    ]


def test_serving_knows_torch_and_tokenizers_only() -> None:
    """Explanations, spans and chat templates need more, in files or functions that are imported or
    called on demand.
    """
    allowed = {"torch", "tokenizers", "torchscript_bundle.serving"}
    found = foreign(PACKAGE / "serving", allowed, without=EAGER)
    assert [each.removeprefix("torchscript_bundle/serving/") for each in found] == [
        "explanations/attribution.py: captum.attr.IntegratedGradients",
        "explanations/page.py: regex",
        "observing/spans.py: opentelemetry.trace",
        "observing/spans.py: opentelemetry.exporter.otlp.proto.http.trace_exporter."
        "OTLPSpanExporter",
        "observing/spans.py: opentelemetry.sdk.resources.SERVICE_NAME",
        "observing/spans.py: opentelemetry.sdk.resources.OTELResourceDetector",
        "observing/spans.py: opentelemetry.sdk.resources.Resource",
        "observing/spans.py: opentelemetry.sdk.trace.TracerProvider",
        "observing/spans.py: opentelemetry.sdk.trace.export.BatchSpanProcessor",
        "observing/spans.py: opentelemetry.trace.propagation.tracecontext."
        "TraceContextTextMapPropagator",
        "text/jinja.py: jinja2.TemplateError",
        "text/jinja.py: jinja2.nodes",
        "text/jinja.py: jinja2.pass_context",
        "text/jinja.py: jinja2.ext.Extension",
        "text/jinja.py: jinja2.ext.loopcontrols",
        "text/jinja.py: jinja2.parser.Parser",
        "text/jinja.py: jinja2.runtime.Context",
        "text/jinja.py: jinja2.runtime.LoopContext",
        "text/jinja.py: jinja2.sandbox.ImmutableSandboxedEnvironment",
    ]
    assert foreign(EAGER, {*allowed, "transformers"}) == []


def test_transformers_is_imported_when_a_model_is_run_eagerly_and_not_before() -> None:
    """In a function of the one file; the test below sees that nothing else brings it in."""
    tree = ast.parse(EAGER.read_text())
    at_the_top = [ast.unparse(node) for node in tree.body if not isinstance(node, ast.FunctionDef)]
    assert not [source for source in at_the_top if "transformers" in {*imports(source)}]
    assert "transformers" in {*imports(EAGER.read_text())}


def test_jit_knows_torch_only() -> None:
    assert foreign(PACKAGE / "jit", {"torch", "torchscript_bundle.jit"}) == []


def test_opentelemetry_is_imported_where_spans_are_asked_for_and_not_before() -> None:
    tree = ast.parse((PACKAGE / "serving" / "observing" / "spans.py").read_text())
    top = "\n".join(ast.unparse(node) for node in tree.body if not isinstance(node, ast.ClassDef))
    assert not [name for name in imports(top) if within(name, {"opentelemetry"})]


def test_handler_knows_serving_only() -> None:
    assert foreign(HANDLER, {"torch", "torchscript_bundle.serving"}) == []


def test_export_shares_the_artifact_with_serving_and_nothing_else() -> None:
    """The artifact's contract is in three files. Besides, export imports what makes the archive's
    OpenAPI document, the bounds of requests, for a model's own settings of generation, what moves
    an old trace to another device, the layer of explanations, and in its quality gate what workers
    run.
    """
    contract = ("artifact", "errors", "modes.mode_options")
    shared = {f"torchscript_bundle.serving.{name}" for name in contract}
    ours = {f"torchscript_bundle.{name}" for name in ("export", "jit", "disk", "members", "sums")}
    rooms: dict[str, set[str]] = defaultdict(set)
    for path in sorted((PACKAGE / "export").rglob("*.py")):
        for name in imports(path.read_text()):
            if name.startswith((".", "torchscript_bundle")) and not within(name, shared | ours):
                rooms[path.relative_to(PACKAGE / "export").as_posix()].add(name.split(".")[2])
    assert rooms == {
        "adopt/traced_file.py": {"engine"},
        "archive.py": {"describe"},
        "explanation.py": {"engine"},
        "generation/facts.py": {"api"},
        "quality/material.py": {"engine"},
        "quality/rehearsal.py": {"api", "engine", "service", "text"},
        "quality/writing.py": {"api", "engine", "generation"},
    }


#: Rooms of serving, top floor first: each imports from its own floor and those below.
FLOORS = (
    {"torchserve"},
    {"service"},
    {"modes", "generation", "explanations", "describe"},
    {"api", "engine", "admission"},
    {"text"},
    {"artifact"},
    {"observing"},
    {"errors"},
)


def test_arrows_in_serving_point_down() -> None:
    floor_of = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
    up: set[tuple[str, str]] = set()
    for path in sorted((PACKAGE / "serving").rglob("*.py")):
        own = path.relative_to(PACKAGE / "serving").parts[0].removesuffix(".py")
        for name in imports(path.read_text()):
            if own != "__init__" and name.startswith("torchscript_bundle.serving."):
                room = name.split(".")[2]
                if floor_of[room] < floor_of[own]:
                    up.add((own, room))
    assert up == set()


def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {
        ".".join(path.parts).removesuffix(".__init__"): ROOT / path.with_suffix(".py")
        for path in paths
    }


def test_no_modules_import_each_other() -> None:
    """Neither directly nor in a circle, nor for a type checker alone."""
    known = modules()
    graph = {
        module: {
            name if name in known else name.rpartition(".")[0]
            for name in imports(path.read_text())
            if name.startswith("torchscript_bundle.")
        }
        for module, path in known.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names them


def test_a_files_name_says_which_it_is() -> None:
    """No two files of the package have the same name, but for those of one kind: the errors of a
    side, and the modes, which are there once a side.
    """
    names = Counter(path.name for path in PACKAGE.rglob("*.py"))
    kinds = {"__init__.py", "base.py", "errors.py", *(f"{mode}.py" for mode in EXPORTED)}
    assert {name for name, count in names.items() if count > 1} <= kinds


def test_what_is_said_of_disks_needs_the_standard_library_only() -> None:
    assert foreign(PACKAGE / "disk.py", set()) == []


def test_facts_of_modes_need_the_standard_library_only() -> None:
    """The config reads them, and is told wrong before torch is imported."""
    facts = PACKAGE / "export" / "tasks.py"
    assert foreign(facts, {"torchscript_bundle.serving.artifact"}) == []


def test_handler_defines_one_class() -> None:
    """TorchServe takes the class of the module, and fails if there are two."""
    nodes = ast.walk(ast.parse(HANDLER.read_text()))
    assert len([node for node in nodes if isinstance(node, ast.ClassDef)]) == 1


def unsafe(source: str) -> list[str]:
    """What in a source would run or unpickle data."""
    found = [name for name in imports(source) if within(name, UNSAFE_MODULES | {"torch.load"})]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id in UNSAFE:
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in (
            "torch.load",
            "ast.literal_eval",
        ):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.alias) and node.name in UNSAFE:
            found.append(node.name)
    return found


@each_source
def test_nothing_evaluates_or_unpickles_data(path: Path) -> None:
    assert unsafe(path.read_text()) == UNPICKLES.get(str(path.relative_to(ROOT)), [])


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "import ast\nast.literal_eval('1')",
        "from ast import literal_eval",
        "import pickle",
        "def f():\n    from pickle import loads",
        "torch.load('x')",
        "from torch import load",
    ],
)
def test_unsafe_source_is_found(source: str) -> None:
    assert unsafe(source)


@pytest.mark.parametrize("source", ["model.eval()", "torch.jit.load('x')", "json.loads('1')"])
def test_safe_source_is_not_found(source: str) -> None:
    assert not unsafe(source)


def test_every_mode_has_its_facts_and_is_exported_and_served() -> None:
    assert [*TASKS] == [*EXPORTED]
    for name, task in TASKS.items():
        assert getattr(EXPORTED[name], "reads_source", False) == task.reads_source
    assert set(EXPORTED) <= set(SERVED)


def test_every_save_mode_is_known_on_both_sides() -> None:
    configurable = get_args(SetupConfig.model_fields["save_mode"].annotation)
    assert {*SAVE_MODES} == {*LOADERS} == {*MODEL_FILES} == {*configurable}


@pytest.mark.parametrize(
    "module", ["torchscript_bundle.serving.service", "Transformer_handler_generalized"]
)
def test_serving_runs_without_what_exports(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert module in loaded
    absent = {"transformers", "pydantic", "torchscript_bundle.export", "torchscript_bundle.jit"}
    assert [name for name in loaded if within(name, absent)] == []


def test_commands_that_talk_to_a_server_import_no_library_of_models() -> None:
    """These take seconds, which each of the commands would cost."""
    code = "import sys, torchscript_bundle.__main__; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert "torchscript_bundle.server" in loaded
    assert [name for name in loaded if within(name, {"torch", "transformers", "pydantic"})] == []
