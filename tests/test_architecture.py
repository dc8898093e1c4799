"""The arrows between the packages, read off their imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from torchscript_bundle.export.config import SetupConfig
from torchscript_bundle.export.modes import MODES as EXPORTED
from torchscript_bundle.export.save_modes import SAVE_MODES
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
    """Explanations and chat templates need more, in files that are imported on demand."""
    allowed = {"torch", "tokenizers", "torchscript_bundle.serving"}
    found = foreign(PACKAGE / "serving", allowed, without=EAGER)
    assert [each.removeprefix("torchscript_bundle/serving/") for each in found] == [
        "explanations/attribution.py: captum.attr.IntegratedGradients",
        "explanations/page.py: regex",
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


def test_handler_knows_serving_only() -> None:
    assert foreign(HANDLER, {"torch", "torchscript_bundle.serving"}) == []


def test_export_shares_the_artifact_with_serving_and_nothing_else() -> None:
    """But for the archive, which has what the serving code says of itself (its OpenAPI document);
    a model's own settings of generation, which are held to the bounds of requests; and three files
    that have a worker compute: a lower precision is tried on what workers run, and int8 calibrated
    there, not on something like it.
    """
    shared = {"torchscript_bundle.serving.artifact", "torchscript_bundle.serving.errors"}
    ours = {"torchscript_bundle.export", "torchscript_bundle.jit", "torchscript_bundle.disk"}
    names = [
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in sorted((PACKAGE / "export").rglob("*.py"))
        for name in imports(path.read_text())
        if name.startswith((".", "torchscript_bundle"))
    ]
    assert names
    assert [name for name in names if not within(name[1], shared | ours)] == [
        ("export/archive.py", "torchscript_bundle.serving.describe.openapi.describe_folder"),
        ("export/generation/facts.py", "torchscript_bundle.serving.api.sampling.NEUTRAL"),
        (
            "export/generation/facts.py",
            "torchscript_bundle.serving.api.sampling.wrong_defaults",
        ),
        (
            "export/quality/material.py",
            "torchscript_bundle.serving.engine.comparison.UnavailableError",
        ),
        (
            "export/quality/material.py",
            "torchscript_bundle.serving.engine.loaders.load_torchscript",
        ),
        (
            "export/quality/material.py",
            "torchscript_bundle.serving.engine.onednn.calibrate",
        ),
        (
            "export/quality/material.py",
            "torchscript_bundle.serving.engine.padding.pad_batch",
        ),
        ("export/quality/rehearsal.py", "torchscript_bundle.serving.api.http.HttpRequest"),
        ("export/quality/rehearsal.py", "torchscript_bundle.serving.api.http.HttpResponse"),
        ("export/quality/rehearsal.py", "torchscript_bundle.serving.engine.precisions.Running"),
        ("export/quality/rehearsal.py", "torchscript_bundle.serving.service.Service"),
        ("export/quality/rehearsal.py", "torchscript_bundle.serving.service.Tokenized"),
        ("export/quality/rehearsal.py", "torchscript_bundle.serving.text.tokenizer.Row"),
        ("export/quality/writing.py", "torchscript_bundle.serving.api.http.HttpResponse"),
        ("export/quality/writing.py", "torchscript_bundle.serving.engine.precisions.Running"),
        (
            "export/quality/writing.py",
            "torchscript_bundle.serving.generation.generation_service.GenerationService",
        ),
    ]


def test_what_is_said_of_disks_needs_the_standard_library_only() -> None:
    assert foreign(PACKAGE / "disk.py", set()) == []


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
    assert unsafe(path.read_text()) == []


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


def test_every_mode_that_is_exported_is_served() -> None:
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
