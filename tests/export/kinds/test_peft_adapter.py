"""Adapters: merged answers are those of peft's model with the adapter apart; what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from tests import tiny
from tests.export.helpers import config_for, copy, edit_json, refused, write_config
from tests.hub import Hub
from tests.serving.helpers import ask
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.modes.feature_extraction import FeatureExtraction
from torchscript_bundle.serving.service import Service

peft = pytest.importorskip("peft")

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
TEXTS = [tiny.CORPUS[2][:20], "x", "soup"]
TARGETS = ["query", "value"]


def adapted(base: Any, task: str | None, targets: list[str], **settings: Any) -> Any:
    """A model with a random adapter whose answers are far from the base's."""
    torch.manual_seed(1)
    config = peft.LoraConfig(task_type=task, target_modules=targets, r=4, lora_alpha=16, **settings)
    model = peft.get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(weight, std=0.3)
    return model.eval()


def base_model(base: Path, auto: str, **settings: Any) -> Any:
    return getattr(transformers, auto).from_pretrained(base, **settings)


@pytest.fixture
def classifier(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A folder with an adapter and the head that was trained with it, for four labels.

    Its base has no head, and another number of labels in its config.
    """
    base = checkpoint("roberta_mlm")
    model = adapted(
        base_model(base, "AutoModelForSequenceClassification", num_labels=4), "SEQ_CLS", TARGETS
    )
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    return tmp_path / "adapter"


def unmerged(base: Path, adapter: Path, auto: str, **settings: Any) -> Any:
    """peft's own model of both."""
    model = base_model(base, auto, **settings)
    return peft.PeftModel.from_pretrained(model, str(adapter)).eval()


@torch.no_grad()
def logits(model: Any, folder: Path, text: str) -> torch.Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    return model(**tokenizer(text, return_tensors="pt"))[0][0]


def test_a_classifier_answers_as_peft_does(
    classifier: Path, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The base is found by the name that the adapter gives it, labels by the adapter's head."""
    base = checkpoint("roberta_mlm")
    bundle = export(config_for(tmp_path, classifier), tmp_path / "artifact")
    assert bundle.labels == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
    assert bundle.source["base_model"] == str(base)
    service = Service(tmp_path / "artifact", torch.device("cpu"))
    oracle = unmerged(base, classifier, "AutoModelForSequenceClassification", num_labels=4)
    _, answers = ask(service, {"inputs": TEXTS, "parameters": {"top_k": None}})
    for text, answer in zip(TEXTS, answers, strict=True):
        scores = {entry["label"]: entry["score"] for entry in answer}
        expected = torch.softmax(logits(oracle, base, text), dim=-1)
        ours = torch.tensor([scores[label] for label in bundle.labels])
        assert torch.allclose(ours, expected, atol=1e-5)


def test_each_of_several_adapters_of_a_writer(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """By `adapter_name`, with the base of the config's `base_model`."""
    base, folder = checkpoint("llama_writer"), tmp_path / "adapters"
    for seed, name in enumerate(("formal", "terse")):
        model = adapted(
            base_model(base, "AutoModelForCausalLM"),
            "CAUSAL_LM",
            ["q_proj", "o_proj"],
            use_rslora=bool(seed),
        )
        model.save_pretrained(folder / name)
        edit_json(folder / name / CONFIG, base_model_name_or_path="org/is-not-asked")
    found = {}
    for name in ("formal", "terse"):
        settings = {"mode": "text_generation", "adapter_name": name, "base_model": str(base)}
        config = config_for(tmp_path, folder, max_length=32, **settings)
        assert config.served_name == name
        found[name] = load_source(config)
        theirs = logits(unmerged(base, folder / name, "AutoModelForCausalLM"), base, TEXTS[0])
        ours = logits(found[name].model, base, TEXTS[0])
        assert torch.allclose(ours, theirs, atol=1e-5 * theirs.abs().max().item())
    assert not torch.equal(*(logits(each.model, base, "x") for each in found.values()))
    with refused("holds the adapters formal, terse", "set adapter_name"):
        load_source(config_for(tmp_path, folder, mode="text_generation"))


def test_vectors_of_an_adapted_sentence_encoder(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """The base's folder says how its tokens are pooled."""
    base = checkpoint("bert_embedding")
    model = adapted(base_model(base, "AutoModel"), "FEATURE_EXTRACTION", TARGETS, use_dora=True)
    model.save_pretrained(tmp_path / "adapter")
    config = config_for(tmp_path, tmp_path / "adapter", mode="feature_extraction")
    source = load_source(config)
    assert asdict(FeatureExtraction().options(source, config))["normalized"] is True
    theirs = logits(unmerged(base, tmp_path / "adapter", "AutoModel"), base, TEXTS[0])
    assert torch.allclose(logits(source.model, base, TEXTS[0]), theirs, atol=1e-5)


def test_tokens_that_were_added_with_the_adapter(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its tokenizer has them, and its weights their embeddings."""
    base = checkpoint("llama_writer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<one>", "<two>"])
    grown = base_model(base, "AutoModelForCausalLM")
    rows = grown.get_input_embeddings().weight.shape[0] + 2
    grown.resize_token_embeddings(rows, mean_resizing=False)
    saved = ["embed_tokens", "lm_head"]
    model = adapted(grown, "CAUSAL_LM", ["q_proj"], modules_to_save=saved)
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    tokenizer.save_pretrained(tmp_path / "adapter")
    config = config_for(tmp_path, tmp_path / "adapter", mode="text_generation")
    found = load_source(config)
    assert found.model.get_input_embeddings().weight.shape[0] == rows
    text = "<one> It works <two>"
    theirs = logits(model, tmp_path / "adapter", text)
    assert torch.allclose(logits(found.model, tmp_path / "adapter", text), theirs, atol=1e-4)


def test_it_comes_from_the_hub_with_its_base(
    classifier: Path,
    checkpoint: Callable[[str], Path],
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the revision that the adapter names; pickles are not fetched."""
    from huggingface_hub import snapshot_download

    from torchscript_bundle.export import hub as hub_module

    monkeypatch.setattr(
        hub_module,
        "snapshot_download",
        lambda name, **kwargs: snapshot_download(
            name, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", **kwargs
        ),
    )
    edit_json(classifier / CONFIG, base_model_name_or_path="org/base", revision="v1")
    (classifier / "training_args.bin").write_bytes(b"a pickle")
    hub.add("org/adapter", classifier)
    commit = hub.add("org/base", checkpoint("roberta_mlm"), branch="v1")
    source = load_source(load_config(write_config(tmp_path, model_name="org/adapter")))
    assert source.base == {"base_model": "org/base", "base_revision": commit}
    assert hub.downloads()[WEIGHTS] == 1
    assert "training_args.bin" not in hub.downloads()


def test_the_model_can_also_be_run_eagerly(classifier: Path, tmp_path: Path) -> None:
    config = config_for(tmp_path, classifier, save_mode="pretrained")
    bundle = export(config, tmp_path / "artifact")
    assert bundle.save_mode == "pretrained"
    assert not list((tmp_path / "artifact").rglob("adapter*"))


def damaged(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"?")


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


def without_a_weight(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights[next(name for name in weights if "lora_B" in name)]
    save_file(weights, folder / WEIGHTS)


def with_a_third_layer(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    more = {name.replace("layer.1.", "layer.2."): tensor for name, tensor in weights.items()}
    save_file(
        {**weights, **{name: tensor.clone() for name, tensor in more.items()}}, folder / WEIGHTS
    )


def without_its_head(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({name: each for name, each in weights.items() if "lora" in name}, folder / WEIGHTS)


def with_keys(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / CONFIG, **changes)


@pytest.mark.parametrize(
    ("spoil", "settings", "words"),
    [
        (damaged, {}, ["the weights of the adapter", "are damaged"]),
        (pickled, {}, ["no safetensors weights", '"use_safetensors": false']),
        (without_a_weight, {}, ["cannot be merged", "missing adapter keys"]),
        (with_a_third_layer, {}, ["cannot be merged", "no place for"]),
        (without_its_head, {}, ["no weights for", "at random"]),
        (with_keys(base_model_name_or_path="/no/such/base"), {}, ["not on this machine"]),
        (with_keys(base_model_name_or_path=None), {}, ["names no base model", "base_model"]),
        (with_keys(task_type="CAUSAL_LM"), {}, ["trained for CAUSAL_LM", "text_generation"]),
        (with_keys(peft_type="NOSUCH"), {}, ["cannot be merged"]),
        (with_keys(megatron_config={"a": 1}), {}, ["megatron_config"]),
        (with_keys(alora_invocation_tokens=[5]), {}, ["alora_invocation_tokens"]),
        (lambda folder: (folder / CONFIG).write_text("[]"), {}, ["must be a JSON object"]),
        (lambda folder: None, {"adapter_name": "other"}, ['"other"', '"default" alone']),
        (lambda folder: (folder / CONFIG).unlink(), {"base_model": "./b"}, ["holds no adapter"]),
    ],
)
def test_refuses_in_one_sentence(
    classifier: Path,
    tmp_path: Path,
    spoil: Callable[[Path], object],
    settings: dict[str, Any],
    words: list[str],
) -> None:
    spoil(classifier)
    with refused(*words) as refusal:
        load_source(config_for(tmp_path, classifier, **settings))
    assert refusal.sentence


def test_a_pickle_is_loaded_where_the_config_allows_it(
    classifier: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = load_source(config_for(tmp_path, classifier)).model.state_dict()
    pickled(classifier)
    found = load_source(config_for(tmp_path, classifier, use_safetensors=False)).model.state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    assert "pickled weights of the adapter" in caplog.text


def test_without_peft_it_says_how_to_install_it(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with refused("is an adapter, which needs the package peft", "-m pip install peft"):
        load_source(config_for(tmp_path, classifier))


def test_an_adapter_brings_no_trust(
    classifier: Path, checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    """Neither its own config nor its base's runs code."""
    base = copy(checkpoint("roberta_mlm"), tmp_path / "base")
    marker = tmp_path / "marker"
    (base / "own.py").write_text(f"open({str(marker)!r}, 'w').close()")
    edit_json(base / "config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})
    auto = {"base_model_class": "Model", "parent_library": "own"}
    edit_json(classifier / CONFIG, auto_mapping=auto, trust_remote_code=True)
    config = config_for(tmp_path, classifier, base_model=str(base))
    with refused("trust_remote_code"):
        load_source(config)
    assert not marker.exists()
    assert json.loads((classifier / CONFIG).read_text())["auto_mapping"] == auto
