"""The toolkit's page says what happens, at a prompt of doctest's and in a file."""

from __future__ import annotations

import ast
import doctest
import subprocess
import sys
import textwrap
from pathlib import Path

from torchscript_bundle import jit

PAGE = Path(jit.__file__).parent / "README.md"


def test_the_examples_answer_as_the_page_says() -> None:
    """doctest keeps the source of what is defined in an example, which TorchScript needs."""
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert failed == 0
    assert tried > 50


def test_pasted_into_a_file_the_examples_answer_the_same(tmp_path: Path) -> None:
    examples = doctest.DocTestParser().get_examples(PAGE.read_text(encoding="utf-8"))
    pasted = tmp_path / "pasted.py"
    pasted.write_text("import sys\n" + "".join(map(as_statement, examples)), encoding="utf-8")
    command = [sys.executable, "-W", "error", str(pasted)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    assert run.stdout == "".join(example.exc_msg or example.want for example in examples)


def as_statement(example: doctest.Example) -> str:
    """Prints what a prompt would: a value, or an error in one line."""
    source = example.source
    if is_expression(source):
        source = f"sys.displayhook(({source}))\n"
    if example.exc_msg is None:
        return source
    told = "print(f'{type(error).__name__}: {error}')"
    return f"try:\n{textwrap.indent(source, '    ')}except Exception as error:\n    {told}\n"


def is_expression(source: str) -> bool:
    [statement] = ast.parse(source).body
    return isinstance(statement, ast.Expr)
