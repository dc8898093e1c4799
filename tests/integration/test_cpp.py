"""The artifact without Python: the C++ examples give the logits, and write, as the model does."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.tiny import VOCABULARY
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.jit import tracing
from torchscript_bundle.server import ROOT
from torchscript_bundle.serving.artifact import Bundle

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")

LENGTHS = (5, 64, 3, 17)
Program = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """Runs the compiled `logits` on arguments and standard input."""
    return compiled("logits", tmp_path_factory.mktemp("cpp"))


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The same of `generate`."""
    return compiled("generate", tmp_path_factory.mktemp("cpp"))


def compiled(name: str, folder: Path) -> Program:
    """Compiles an example into a folder."""
    make = ["make", "-C", str(ROOT / "examples" / "cpp"), "CXX=g++", f"PY={sys.executable}"]
    subprocess.run([*make, f"OUT={folder}", str(folder / name)], check=True)
    binary = folder / name

    def run(*words: object, rows: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(binary), *map(str, words)]
        return subprocess.run(command, input=rows, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def module(artifact: Callable[[str], Path]) -> Path:
    """A module with token types, exact at any length."""
    return artifact("bert") / "traced_model.pt"


def numbers(done: subprocess.CompletedProcess[str]) -> torch.Tensor:
    """Printed logits, *Shape:* ``[rows, labels]``."""
    assert (done.returncode, done.stderr) == (0, "")
    return torch.tensor([[float(word) for word in row.split()] for row in done.stdout.splitlines()])


@pytest.mark.parametrize(("name", "pad"), [("bert", 0), ("distilbert", 0), ("roberta", 1)])
def test_logits_equal_the_eager_models(
    program: Program,
    artifact: Callable[[str], Path],
    checkpoint: Callable[[str], Path],
    name: str,
    pad: int,
) -> None:
    """Rows of different lengths, padded there and here."""
    eager = AutoModelForSequenceClassification.from_pretrained(checkpoint(name)).eval()
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, VOCABULARY, (length,), generator=generator) for length in LENGTHS]
    ids = pad_sequence(rows, batch_first=True, padding_value=pad)
    mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    with torch.inference_mode():
        expected = eager(input_ids=ids, attention_mask=mask).logits
    text = "\n".join(" ".join(map(str, row.tolist())) for row in rows)
    module = artifact(name) / "traced_model.pt"
    torch.testing.assert_close(
        numbers(program(module, "--pad", pad, rows=text)), expected, rtol=0, atol=1e-5
    )


def test_arguments_are_a_row(program: Program, module: Path) -> None:
    assert torch.equal(numbers(program(module, 2, 7, 3)), numbers(program(module, rows="2 7 3\n")))


def test_the_padding_is_the_id_given(program: Program, module: Path) -> None:
    """An id outside the vocabulary is noticed, and only where there is padding."""
    options = [module, "--pad", VOCABULARY]
    assert program(*options, rows="2 7 3\n2 8 3").returncode == 0
    done = program(*options, rows="2 7 3\n2 7 8 3")
    expected = "error: forward failed on 2 x 4 ids: RuntimeError: index out of range in self\n"
    assert (done.returncode, done.stderr) == (1, expected)


@pytest.mark.parametrize(
    ("words", "rows", "expected"),
    [
        (["2", "seven", "3"], "", "'seven' is not a token id"),
        (["2", "-7", "3"], "", "'-7' is not a token id"),
        (["2", str(2**63)], "", f"'{2**63}' is not a token id"),
        (["2", "--pad"], "", "--pad needs a token id"),
        ([], "2 7.5 3", "'7.5' is not a token id"),
        ([], "2 7 3\n\n2 8 3\n", "row 2 is empty"),
        ([], "", "there are no rows on standard input"),
        (["2", "300", "3"], "", "forward failed on 1 x 3 ids: RuntimeError: index out of range"),
    ],
)
def test_what_is_wrong_with_the_ids_is_said(
    program: Program, module: Path, words: list[str], rows: str, expected: str
) -> None:
    check_error(program(module, *words, rows=rows), expected)


def test_what_is_wrong_with_the_module_is_said(program: Program, tmp_path: Path) -> None:
    missing, text, tensors, linear = (
        tmp_path / name for name in ("missing.pt", "text.pt", "tensors.pt", "linear.pt")
    )
    text.write_text("not a module")
    torch.save({"weight": torch.zeros(2)}, tensors)
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(linear))
    check_error(program(missing, 1), f"there is no file {missing}")
    check_error(program(tmp_path, 1), f"there is no file {tmp_path}")
    check_error(program(text, 1), f"{text} is not a TorchScript module: ")
    check_error(program(tensors, 1), f"{tensors} is not a TorchScript module: ")
    check_error(program(linear, 1), f"{linear} has no forward(input_ids, attention_mask[, token_t")
    check_error(program(), "usage: logits MODULE")


WORDS = "The film was long and the ending was a surprise", "It works", "We waited an hour"


def written(done: subprocess.CompletedProcess[str]) -> list[list[int]]:
    """Printed token ids, a list for each answer."""
    assert (done.returncode, done.stderr) == (0, "")
    return [[int(word) for word in row.split()] for row in done.stdout.splitlines()]


def cut(row: list[int], ends: list[int]) -> list[int]:
    """Up to the first token that ends a text."""
    stop = next((at for at, token in enumerate(row) if token in ends), len(row))
    return row[: stop + 1]


@pytest.mark.parametrize("name", ["llama_writer", "bart_writer"])
def test_answers_are_those_of_transformers(
    writer: Program, artifact: Callable[[str], Path], checkpoint: Callable[[str], Path], name: str
) -> None:
    """Texts of different lengths, padded there and here."""
    bundle = Bundle.load(artifact(name))
    eager = getattr(transformers, TASKS[bundle.mode].auto_class)
    eager = eager.from_pretrained(checkpoint(name)).eval()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint(name), padding_side=bundle.padding.side)
    texts = tokenizer(list(WORDS), padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.inference_mode():
        whole = eager.generate(**texts, max_new_tokens=12, do_sample=False)
    start = 1 if eager.config.is_encoder_decoder else texts["input_ids"].shape[1]
    expected = [cut(row, bundle.mode_options["eos_ids"]) for row in whole[:, start:].tolist()]
    rows = "\n".join(" ".join(map(str, tokenizer(text)["input_ids"])) for text in WORDS)
    module = artifact(name) / "traced_model.pt"
    assert written(writer(module, "--max_new_tokens", 12, rows=rows)) == expected


def test_drawn_answers_are_those_of_the_same_seed(
    writer: Program, artifact: Callable[[str], Path]
) -> None:
    path = artifact("llama_writer") / "traced_model.pt"
    module = tracing.load(path, torch.device("cpu"))
    ids, mask = torch.tensor([[7, 9, 11]]), torch.ones(1, 3, dtype=torch.int64)
    expected = module.generate(ids, mask, 15, do_sample=True, top_k=50, top_p=0.9, seeds=[4])
    options = ["--do_sample", 1, "--top_k", 50, "--top_p", 0.9, "--seed", 4]
    found = written(writer(path, *options, "--max_new_tokens", 15, 7, 9, 11))
    assert found == [cut(expected[0].tolist(), list(module.eos_ids))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["7", "nine"], "'nine' is not a token id"),
        (["--seed"], "--seed needs a value"),
        (["--length", "3", "7"], "generate takes no --length 3"),
        (["--seeds", "3", "7"], "generate takes no --seeds 3"),
        (["--do_sample", "yes", "7"], "generate takes no --do_sample yes"),
        (["--top_k", "2.5", "7"], "--top_k cannot be '2.5'"),
        (["--top_p", "2", "7"], "generate failed on 1 x 1 ids: "),
        (["--max_new_tokens", "64", "7"], "generate failed on 1 x 1 ids: "),
    ],
)
def test_what_is_wrong_with_a_call_of_generate_is_said(
    writer: Program, artifact: Callable[[str], Path], words: list[str], expected: str
) -> None:
    check_error(writer(artifact("llama_writer") / "traced_model.pt", *words), expected)


def test_module_that_does_not_write_is_refused(writer: Program, module: Path) -> None:
    check_error(writer(module, 1), f"{module} has no generate")
    check_error(writer(), "usage: generate MODULE")


def check_error(done: subprocess.CompletedProcess[str], expected: str) -> None:
    """Status 1, nothing printed, and one line that begins as expected."""
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {expected}")
    assert done.stderr.count("\n") == 1
