"""Dense layers, shortened vectors and prompts, beside sentence-transformers' own answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.export.helpers import config_for, copy, edit_json, refused
from tests.serving.helpers import ask
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.modes.base import Given
from torchscript_bundle.export.modes.feature_extraction import FeatureExtraction
from torchscript_bundle.serving.service import Service

sentence_transformers = pytest.importorskip("sentence_transformers")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

MODE = "feature_extraction"
DENSE = "2_Dense/config.json"
SETTINGS = "config_sentence_transformers.json"
TEXTS = [*(text[:12] for text in tiny.CORPUS), "x", "Soup. "]


def save(checkpoint: Path, folder: Path, *further: Any, **settings: Any) -> Path:
    """A folder that sentence-transformers writes: a checkpoint, its mean, further modules."""
    torch.manual_seed(0)
    body = [modules.Transformer(str(checkpoint)), modules.Pooling(32)]
    sentence_transformers.SentenceTransformer(
        modules=[*body, *further], device="cpu", **settings
    ).save(str(folder), create_model_card=False)
    return folder


@pytest.fixture
def model(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy of LaBSE's kind to spoil."""
    dense = modules.Dense(32, 24, activation_function=torch.nn.Tanh())
    return save(checkpoint("bert_embedding"), tmp_path / "model", dense, modules.Normalize())


def vectors(folder: Path, model: Path, **settings: Any) -> torch.Tensor:
    """The vector of each text, of the module that would be traced: `[texts, dim]`."""
    config = config_for(folder, model, mode=MODE, max_length=64, **settings)
    source, mode = load_source(config), FeatureExtraction()
    options = asdict(mode.options(source, config))
    inputs = mode.input_names(source.model, source.tokenizer)
    module = mode.wrap(source.model, Given(inputs, options, mode.head(source, config))).eval()
    encodings = [source.tokenizer(text, return_tensors="pt") for text in TEXTS]
    with torch.no_grad():
        return torch.cat([module(*(each[name] for name in inputs))[0] for each in encodings])


def served(folder: Path, model: Path, **settings: Any) -> Service:
    config = config_for(folder, model, mode=MODE, max_length=32, **settings)
    export(config, folder / "artifact")
    return Service(folder / "artifact", torch.device("cpu"))


def answered(service: Service, **parameters: Any) -> torch.Tensor:
    status, answer = ask(service, {"inputs": TEXTS, "parameters": parameters})
    assert status == 200, answer
    return torch.tensor(answer)


def equal(ours: torch.Tensor, model: Path, **encode: Any) -> bool:
    """Whether vectors are those of sentence-transformers, in direction and in length."""
    oracle = sentence_transformers.SentenceTransformer(str(model), device="cpu")
    theirs = torch.as_tensor(oracle.encode(TEXTS, **encode))
    assert ours.shape == theirs.shape
    cosine = torch.cosine_similarity(ours.double(), theirs.double()).min().item()
    return cosine > 0.99999 and torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_dense_with_an_activation_as_in_labse(model: Path, tmp_path: Path) -> None:
    assert equal(vectors(tmp_path, model), model)


def test_two_dense_layers_and_prompts_as_in_embeddinggemma(tmp_path: Path) -> None:
    """Without bias and activation, on a decoder whose tokens all see each other."""
    checkpoint = tiny.save_checkpoint(
        tmp_path / "gemma", tiny.gemma3_base, tiny.byte_level_tokenizer()
    )
    linear = {"bias": False, "activation_function": torch.nn.Identity()}
    further = [modules.Dense(32, 48, **linear), modules.Dense(48, 32, **linear)]
    prompts = {"query": "query: ", "document": "text: "}
    settings: dict[str, Any] = {"prompts": prompts, "default_prompt_name": "document"}
    model = save(checkpoint, tmp_path / "model", *further, modules.Normalize(), **settings)
    service = served(tmp_path, model)
    assert equal(answered(service, prompt_name="query"), model, prompt_name="query")
    assert equal(answered(service), model)
    assert not equal(answered(service), model, prompt_name="query")


@pytest.mark.parametrize("mine", [True, False])
def test_vectors_are_shortened_as_sentence_transformers_does(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, mine: bool
) -> None:
    """By the config or the folder: after its Normalize, so that the length is no longer 1."""
    if not mine:
        edit_json(model / SETTINGS, truncate_dim=8)
    mine_is = {"truncate_dim": 8} if mine else {}
    assert equal(vectors(tmp_path, model, **mine_is), model, truncate_dim=8)
    assert "after they were normalised" in caplog.text
    whole = {"truncate_dim": 8, "normalize_embeddings": True}
    ours = vectors(tmp_path, model, **mine_is, normalize_embeddings=True)
    assert equal(ours, model, **whole)


def test_a_request_has_shortened_vectors_normalised(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    model = checkpoint("bert_embedding")
    ours = answered(served(tmp_path, model, truncate_dim=8), normalize=True)
    assert equal(ours, model, truncate_dim=8, normalize_embeddings=True)


def test_a_residual_and_a_dense_after_normalize(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    gelu = {"activation_function": torch.nn.GELU(), "use_residual": True}
    further = [modules.Dense(32, 32, **gelu), modules.Normalize(), modules.Dense(32, 8, **gelu)]
    model = save(checkpoint("bert_embedding"), tmp_path / "model", *further)
    assert equal(vectors(tmp_path, model), model)


def test_the_config_chooses_the_prompt(
    checkpoint: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The model's own default is `passage`."""
    model = checkpoint("unigram_embedding")
    for wanted, prompt in {"query": "query: ", "": ""}.items():
        config = config_for(tmp_path, model, mode=MODE, default_prompt_name=wanted)
        options = FeatureExtraction().options(load_source(config), config)
        assert options.default_prompt == prompt
    assert "default_prompt_name 'query' is applied" in caplog.text
    with refused("which is no prompt of", "its prompts are passage, query"):
        vectors(tmp_path, model, default_prompt_name="title")


def test_prompts_are_left_out_of_the_pooling_where_the_folder_says_so(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The model sees them; with padding on the left."""
    model = copy(checkpoint("llama_embedding"), tmp_path / "model")
    edit_json(model / "1_Pooling/config.json", pooling_mode="mean", include_prompt=False)
    prompts = {"query": "Query: ", "document": ""}
    edit_json(model / SETTINGS, prompts=prompts, default_prompt_name="query")
    service = served(tmp_path, model)
    assert equal(answered(service), model)
    assert equal(answered(service, prompt_name="document"), model, prompt="")
    edit_json(model / "1_Pooling/config.json", include_prompt=True)
    assert not equal(answered(service), model)
    edit_json(model / "1_Pooling/config.json", include_prompt=False)
    with refused("leaves its prompts out", '"save_mode": "torchscript"'):
        vectors(tmp_path, model, save_mode="pretrained")


@pytest.mark.parametrize("save_mode", ["torchscript", "pretrained"])
def test_an_encoder_that_was_saved_without_its_decoder(tmp_path: Path, save_mode: str) -> None:
    """As in sentence-t5, gtr-t5 and Instructor."""
    checkpoint = tiny.save_checkpoint(tmp_path / "t5", tiny.t5_encoder, tiny.unigram_tokenizer())
    dense = modules.Dense(32, 16, bias=False, activation_function=torch.nn.Identity())
    further = [dense] if save_mode == "torchscript" else []
    model = save(checkpoint, tmp_path / "model", *further, modules.Normalize())
    assert equal(answered(served(tmp_path, model, save_mode=save_mode)), model)


@pytest.mark.parametrize(
    "path",
    ["os.system", "torch.nn.Linear", "torch.hub.load", "builtins.exec", "my.Tanh", "Tanh"],
)
def test_no_name_in_a_config_is_imported(model: Path, tmp_path: Path, path: str) -> None:
    edit_json(model / DENSE, activation_function=path)
    with refused(f"the activation function {path}", "Identity, Tanh"):
        vectors(tmp_path, model)


def test_pickled_weights_of_a_dense_need_trust(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = model / "2_Dense" / "model.safetensors"
    torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with refused("the 2_Dense of", "no safetensors weights", '"use_safetensors": false'):
        vectors(tmp_path, model)
    assert equal(vectors(tmp_path, model, use_safetensors=False), model)
    assert "pickled weights of the 2_Dense" in caplog.text


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: edit_json(path / DENSE, out_features=23), ["out_features is 23", "24"]),
        (lambda path: edit_json(path / DENSE, module_input_name="tokens"), ["Dense of something"]),
        (lambda path: (path / "2_Dense/model.safetensors").write_bytes(b""), ["cannot be read"]),
        (lambda path: (path / "2_Dense/model.safetensors").unlink(), ["has no weights"]),
    ],
)
def test_a_spoiled_dense_is_refused(
    model: Path, tmp_path: Path, spoil: Callable[[Path], object], words: list[str]
) -> None:
    spoil(model)
    with refused(*words) as refusal:
        vectors(tmp_path, model)
    assert refusal.sentence


@pytest.mark.parametrize("settings", [{}, {"truncate_dim": 8}])
def test_a_worker_that_pools_by_itself_has_no_such_layers(
    checkpoint: Callable[[str], Path], model: Path, tmp_path: Path, settings: dict[str, int]
) -> None:
    folder = copy(checkpoint("bert_embedding"), tmp_path / "plain") if settings else model
    with refused('"save_mode": "torchscript"') as refusal:
        vectors(tmp_path, folder, save_mode="pretrained", **settings)
    assert refusal.sentence
    assert json.loads((folder / "modules.json").read_text())
