"""Archives that nobody should trust: each is refused by one sentence, and nothing is written."""

from __future__ import annotations

import json
import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.adopt.helpers import OLD, rewrite, saved, write_archive
from tests.export.helpers import listing, refused
from torchscript_bundle.export.adopt.adoption import adopt
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.exporter import export

IDS = torch.arange(20)[None] + 5
MASK = torch.ones_like(IDS)


class Classifier(torch.nn.Module):
    """Mean of embeddings over the mask, as logits of two labels."""

    def __init__(self, size: int = 320) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(size, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        weights = mask[..., None].float()
        return ((self.embedding(ids) * weights).sum(1) / weights.sum(1),)


class OfOneLength(Classifier):
    """Keeps the length of its example, as position biases made in Python do."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        bias = torch.linspace(0, 1, int(ids.shape[1]))
        weights = mask.float() * bias
        return ((self.embedding(ids) * weights[..., None]).sum(1),)


class WithoutMask(Classifier):
    """Reads padding as text."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.embedding(ids).mean(1)


class WithTypes(Classifier):
    """Takes token types too, and returns hidden states as well."""

    def forward(  # type: ignore[override]
        self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        [logits] = super().forward(ids, mask)
        return logits + types.sum(1, keepdim=True), self.embedding(ids)


def settle(folder: Path, tokenizer: str = str(OLD / "bert_tokenizer")) -> Path:
    """Adopt the archive in a folder and export it; return the artifact."""
    config = adopt(folder / "old.mar", folder / "adopted", tokenizer)
    export(load_config(config), folder / "adopted" / "artifact")
    return folder / "adopted" / "artifact"


def holds(artifact: Path) -> str:
    """Return what the proof of an artifact holds at."""
    found = json.loads((artifact / "bundle.json").read_text())
    return str(found["verification"]["holds"])


@pytest.mark.parametrize(
    ("module", "examples", "inputs", "shapes"),
    [
        (Classifier(), (IDS, MASK), 2, "any batch, any length from 2 to 20"),
        (OfOneLength(), (IDS, MASK), 2, "any batch, length 20 only"),
        (WithoutMask(), (IDS,), 1, "any batch, length 20 only"),
        (WithTypes(), (IDS, MASK, MASK * 0), 3, "any batch, any length from 2 to 20"),
    ],
    ids=["any length", "one length", "no mask", "three inputs"],
)
def test_the_claim_is_what_equals_the_old_handler(
    module: torch.nn.Module,
    examples: tuple[torch.Tensor, ...],
    inputs: int,
    shapes: str,
    tmp_path: Path,
) -> None:
    write_archive(tmp_path / "old.mar", saved(module, *examples, path=tmp_path / "traced.pt"))
    artifact = settle(tmp_path)
    assert holds(artifact) == shapes
    assert len(json.loads((artifact / "bundle.json").read_text())["inputs"]) == inputs


def test_the_traced_length_is_found_where_the_config_is_wrong(tmp_path: Path) -> None:
    model = saved(OfOneLength(), IDS, MASK, path=tmp_path / "traced.pt")
    write_archive(tmp_path / "old.mar", model, settings={"max_length": "30"})
    with refused("max_length is 30", "at 20 tokens", "set max_length to 20"):
        settle(tmp_path)


class Reads(torch.nn.Module):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.from_file("/etc/hostname", False, 2)


class Prints(torch.nn.Module):
    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        print(ids)
        return ids


class Awakes(torch.nn.Module):
    """Has code that runs while it is loaded."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return ids

    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        self.training = state == 1


def traced(module: torch.nn.Module) -> Callable[[Path], bytes]:
    """Return a maker of the file of a traced module."""
    return lambda folder: saved(module, IDS, MASK, path=folder / "traced.pt")


def scripted(module: torch.nn.Module) -> Callable[[Path], bytes]:
    """Return a maker of the file of a scripted module."""

    def make(folder: Path) -> bytes:
        torch.jit.script(module).save(folder / "scripted.pt")
        return (folder / "scripted.pt").read_bytes()

    return make


def with_operator(name: bytes) -> Callable[[Path], bytes]:
    """Return a maker of a file that calls an operator which torch lacks."""

    def make(folder: Path) -> bytes:
        traced(Classifier())(folder)
        change = {".py": (b"torch.embedding(", name + b"(")}
        return rewrite(folder / "traced.pt", folder / "edited.pt", change).read_bytes()

    return make


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        (lambda _: b"no zip", {}, ["traced_model.pt is not a TorchScript file", "torch.jit.save"]),
        (scripted(Reads()), {}, ["reads or writes files", "not loaded"]),
        (scripted(Prints()), {}, ["prints", "not loaded"]),
        (scripted(Awakes()), {}, ["runs code while it is loaded", "not loaded"]),
        (with_operator(b"torch.embedding_of_old"), {}, ["aten::embedding_of_old", "lacks"]),
        (with_operator(b"ops.neuron.embedding"), {}, ["neuron::embedding", "torch alone"]),
        (
            traced(Classifier()),
            {"mode": "text_generation"},
            ["cannot be served as text_gen"],
        ),
        (traced(Classifier()), {"mode": "token_classification"}, ["no output of token_class"]),
        (traced(Classifier()), {"mode": "nonsense"}, ["mode", "allowed"]),
        (traced(Classifier()), {"max_length": "long"}, ['max_length is "long"']),
        (traced(Classifier()), {"captum_explanation": 3}, ["captum_explanation"]),
        (traced(Classifier(50)), {}, ["token ids up to", "no embedding", "--tokenizer"]),
        (traced(Classifier().double()), {}, ["weights in torch.float64", "float32"]),
    ],
)
def test_a_model_that_cannot_be_served_is_refused(
    model: Callable[[Path], bytes], settings: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    write_archive(tmp_path / "old.mar", model(tmp_path), settings=settings)
    with refused(*words):
        settle(tmp_path)


def bomb(path: Path) -> None:
    write_archive(path, b"", extra={"setup_config.json": b" " * 200_000_000})


def no_zip(path: Path) -> None:
    path.write_bytes(b"PK" + b"0" * 100)


def cut(path: Path) -> None:
    write_archive(path, b"0" * 1000)
    path.write_bytes(path.read_bytes()[:-30])


def plain_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("model.pt", b"")


def broken_manifest(path: Path) -> None:
    write_archive(path, b"", manifest={"model": 7})


def escaping(path: Path) -> None:
    write_archive(path, b"", model_file="../../escaped.pt")


def absolute(path: Path) -> None:
    write_archive(path, b"", model_file="/tmp/escaped.pt")


def no_settings(path: Path) -> None:
    write_archive(path, b"", extra={"setup_config.json": b"{}"})


def settings_of_nonsense(path: Path) -> None:
    write_archive(path, b"", extra={"setup_config.json": b"__import__('os').abort()"})


def deep_settings(path: Path) -> None:
    write_archive(path, b"", extra={"setup_config.json": b"[" * 100_000})


def many_aliases(path: Path) -> None:
    """Ten lists of ten, each of the one before: ten thousand million entries."""
    lines = [
        "l0: &l0 [x]",
        *(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 11)),
    ]
    about = {"serializedFile": "traced_model.pt", "configFile": "model-config.yaml"}
    config = "\n".join([*lines, "handler: {mode: sequence_classification, traced_lengths: *l10}"])
    extra = {"model-config.yaml": config.encode()}
    write_archive(path, b"", manifest={"model": about}, extra=extra)


def parent_as_model(path: Path) -> None:
    write_archive(path, b"", model_file="..")


def folder_as_model(path: Path) -> None:
    write_archive(path, b"", model_file="weights/model.pt")


def large(path: Path) -> None:
    """More of a file than is ever read into memory, at a ratio that is believable."""
    write_archive(
        path, random.Random(0).randbytes(2_000_000), extra={"setup_config.json": b" " * 101_000_000}
    )


def linked(path: Path) -> None:
    write_archive(path, b"")
    entry = zipfile.ZipInfo("tokenizer.json")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "a") as target:
        target.writestr(entry, "/etc/passwd")


def weights_as_trace(path: Path) -> None:
    write_archive(path, b"", model_file="pytorch_model.bin")


def trace_as_weights(path: Path) -> None:
    write_archive(path, b"", settings={"save_mode": "pretrained"})


def tokenizer_elsewhere(path: Path) -> None:
    write_archive(path, b"", settings={"model_name": "./nowhere"})


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("write", "words"),
    [
        (bomb, ["would unpack to 200 MB"]),
        (large, ["a setup_config.json that would unpack to 101 MB"]),
        (linked, ["no plain file, 'tokenizer.json'"]),
        (no_zip, ["is damaged"]),
        (cut, ["is damaged"]),
        (plain_zip, ["has no MAR-INF/MANIFEST.json"]),
        (broken_manifest, ["does not say what the model is"]),
        (escaping, ["unsafe name, '../../escaped.pt'"]),
        (absolute, ["unsafe name, '/tmp/escaped.pt'"]),
        (no_settings, ["no setup_config.json", "handler's mode"]),
        (settings_of_nonsense, ["setup_config.json cannot be read"]),
        (deep_settings, ["setup_config.json cannot be read"]),
        (many_aliases, ["model-config.yaml cannot be read"]),
        (parent_as_model, ["unsafe name, '..'"]),
        (folder_as_model, ["names no model in the archive"]),
        (weights_as_trace, ['correct save_mode to "pretrained"']),
        (trace_as_weights, ["save_mode is pretrained", "traced_model.pt"]),
        (tokenizer_elsewhere, ["./nowhere", "the old config's model_name", "--tokenizer"]),
        (lambda _: None, ["no such file"]),
        (Path.mkdir, ["is a folder"]),
    ],
)
def test_an_archive_that_cannot_be_read_is_refused_and_nothing_written(
    write: Callable[[Path], None], words: list[str], tmp_path: Path
) -> None:
    write(tmp_path / "old.mar")
    before = listing(tmp_path)
    with refused(*words) as refusal:
        adopt(tmp_path / "old.mar", tmp_path / "adopted")
    assert refusal.sentence
    assert listing(tmp_path) == before


def test_a_tokenizer_is_fetched_by_the_name_in_the_old_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of that name here, as on the machine that made the archive."""
    monkeypatch.chdir(OLD)
    model = saved(Classifier(), IDS, MASK, path=tmp_path / "traced.pt")
    write_archive(tmp_path / "old.mar", model, settings={"model_name": "bert_tokenizer"})
    config = adopt(tmp_path / "old.mar", tmp_path / "adopted")
    assert (config.parent / "model" / "tokenizer.json").is_file()
