"""What an artifact of a model that writes says of itself, and what its file writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from rich.console import Console
from torch import Tensor
from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

from tests import tiny
from tests.conftest import MODES
from tests.export.helpers import config_for, copy, edit_json, refused
from torchscript_bundle.export.archive import model_config
from torchscript_bundle.export.config import load_config
from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.exporter import export
from torchscript_bundle.export.generation import read_facts
from torchscript_bundle.export.kinds import load_source
from torchscript_bundle.export.proof_table import print_proof
from torchscript_bundle.export.tasks import TASKS
from torchscript_bundle.jit import tracing
from torchscript_bundle.serving.api.sampling import make_settings, sampling_fields
from torchscript_bundle.serving.artifact import (
    MODULE_FILE,
    REQUESTS_PER_ROW,
    Bundle,
    Output,
    Padding,
)

WRITERS = ("gpt2_writer", "llama_writer", "mistral_writer", "t5_writer", "bart_writer")
TEXTS = ("The film was", "It works as described; the battery", "We waited an hour for cold soup")
NEW = 20

each_writer = pytest.mark.parametrize("name", WRITERS)
Folder = Callable[[str], Path]


def eager_model(checkpoint: Path) -> Any:
    auto_class = TASKS[MODES[checkpoint.name]].auto_class
    return getattr(transformers, auto_class).from_pretrained(checkpoint).eval()


def tokens(checkpoint: Path, bundle: Bundle) -> tuple[Tensor, Tensor]:
    """Ids and mask of `TEXTS`, int64 `[batch, length]`, as transformers pads for `generate`."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, padding_side=bundle.padding.side)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(bundle.padding.token_id)
    rows = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    return rows["input_ids"], rows["attention_mask"]


def by_transformers(model: Any, ids: Tensor, mask: Tensor, bundle: Bundle, **settings: Any) -> Any:
    """What its own `generate` adds to the texts."""
    with torch.no_grad():
        written = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=NEW,
            pad_token_id=bundle.padding.token_id,
            **settings,
        )
    return written[:, 1 if model.config.is_encoder_decoder else ids.shape[1] :]


@each_writer
def test_file_writes_what_transformers_writes(
    checkpoint: Folder, artifact: Folder, name: str
) -> None:
    """Rows of different lengths, to the model's own end and to one that comes sooner."""
    bundle = Bundle.load(artifact(name))
    module = tracing.load(artifact(name) / MODULE_FILE, torch.device("cpu"))
    model = eager_model(checkpoint(name))
    ids, mask = tokens(checkpoint(name), bundle)
    assert not mask.all()
    own = by_transformers(model, ids, mask, bundle)
    assert torch.equal(module.generate(ids, mask, NEW), own)
    end = int(own[0, 3])
    expected = by_transformers(model, ids, mask, bundle, eos_token_id=end)
    assert torch.equal(module.generate(ids, mask, NEW, eos_ids=[end]), expected)
    assert len(set(own.flatten().tolist())) > 5  # else the comparison would say little


@pytest.mark.parametrize("name", ["gpt2_writer", "t5_writer"])
def test_bundle_says_what_serving_needs(artifact: Folder, name: str) -> None:
    bundle = Bundle.load(artifact(name))
    decoder_only = name == "gpt2_writer"
    assert bundle.inputs == ("input_ids", "attention_mask")
    assert (bundle.outputs, bundle.labels) == ((Output("logits"),), ())
    assert (bundle.min_length, bundle.max_length) == (1, 64)
    assert (bundle.dynamic_batch, bundle.dynamic_length) == (True, True)
    assert (bundle.reads_padding, bundle.explanations) == (False, False)
    if decoder_only:  # without a padding token: what ends a text fills rows
        assert bundle.padding == Padding("left", 0, 0)
        assert "pad" not in bundle.special_ids
    else:
        assert bundle.padding == Padding("right", 1, 0)
    assert bundle.mode_options == {
        "eos_ids": [0] if decoder_only else [2],
        "pad_id": 0 if decoder_only else 1,
        "start_id": -1 if decoder_only else 1,
        "first_id": -1,
        "last_id": -1,
        "max_source_length": 0 if decoder_only else 64,
        "defaults": {
            "do_sample": False,
            "temperature": 1.0,
            "top_k": 0,
            "top_p": 1.0,
            "repetition_penalty": 1.0,
        },
        "chat_template": None,
        "special_tokens": bundle.mode_options["special_tokens"],
        "clean_up_spaces": False,
        "default_max_new_tokens": 63,
    }
    assert bundle.mode_options["special_tokens"]["eos_token"] == "</s>"


def test_chat_template_and_what_it_refers_to_travel_along(
    checkpoint: Folder, artifact: Folder
) -> None:
    options = Bundle.load(artifact("llama_writer")).mode_options
    tokenizer = AutoTokenizer.from_pretrained(checkpoint("llama_writer"))
    assert options["chat_template"] == tiny.CHAT_TEMPLATE
    assert options["special_tokens"] == tokenizer.special_tokens_map
    assert {"bos_token", "eos_token"} <= options["special_tokens"].keys()


def test_of_several_chat_templates_the_default_is_taken(checkpoint: Folder, tmp_path: Path) -> None:
    model = copy(checkpoint("gpt2_writer"), tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = {"default": "{{ messages }}", "tool_use": "{{ tools }}"}
    tokenizer.save_pretrained(model)
    bundle = export(config_for(tmp_path, model, mode="text_generation"), tmp_path / "out")
    assert bundle.mode_options["chat_template"] == "{{ messages }}"


@each_writer
def test_proof_names_the_trial_of_each_case(artifact: Folder, name: str) -> None:
    proof = Bundle.load(artifact(name)).verification
    assert proof["holds"].startswith("any batch, texts of up to 64 tokens")
    assert {case["verdict"] for case in proof["cases"]} <= {"exact", "close"}
    assert proof["worst_relative_difference"] < 1e-5
    assert proof["padding_effect"] < 1e-5
    page = StringIO()
    print_proof(artifact(name), Console(file=page, width=120))
    shown = page.getvalue()
    trials = {case["trial"] for case in proof["cases"]}
    assert len(trials) == 3
    assert all(trial in shown for trial in trials)
    rows = [line for line in shown.splitlines() if line.startswith("│")]
    assert len([row for row in rows if "padded" in row]) == len(proof["cases"])


def test_settings_of_the_model_that_are_not_followed_are_told(
    checkpoint: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = copy(checkpoint("bart_writer"), tmp_path / "model")
    given = {"num_beams": 4, "no_repeat_ngram_size": 3, "top_k": 30, "forced_bos_token_id": 0}
    edit_json(model / "generation_config.json", **given)
    bundle = export(config_for(tmp_path, model, mode="text2text_generation"), tmp_path / "out")
    assert "sets no_repeat_ngram_size, num_beams, which this bundle does not follow" in caplog.text
    assert bundle.verification["settings_not_followed"] == ["no_repeat_ngram_size", "num_beams"]
    assert bundle.mode_options["defaults"]["top_k"] == 30
    assert (bundle.mode_options["start_id"], bundle.mode_options["first_id"]) == (2, 0)
    page = StringIO()
    print_proof(tmp_path / "out", Console(file=page, width=120))
    assert "not followed: no_repeat_ngram_size, num_beams" in page.getvalue()


def test_model_that_names_no_end_is_told(
    checkpoint: Folder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = copy(checkpoint("gpt2_writer"), tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        edit_json(model / name, eos_token_id=None)
    bundle = export(config_for(tmp_path, model, mode="text_generation"), tmp_path / "out")
    assert "names no token that ends a text" in caplog.text
    assert bundle.mode_options["eos_ids"] == []
    assert bundle.mode_options["pad_id"] == 2  # the tokenizer's end of a text


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("repetition_penalty", 0.0, "repetition_penalty must be a number of at least 0.01"),
        ("temperature", -1.0, "temperature must be a number of at least 0 and at most 100"),
        ("top_k", -1, "top_k must be a whole number from 0"),
        ("top_p", 1.5, "top_p must be a number of at least 0 and at most 1"),
    ],
)
def test_settings_that_no_request_could_send_are_refused(
    checkpoint: Folder, setting: str, value: float, says: str
) -> None:
    model = eager_model(checkpoint("gpt2_writer"))
    setattr(model.generation_config, setting, value)
    with pytest.raises(ExportError, match=f"generation_config.json: {says}.* and is {value}"):
        read_facts(model, 48)


def test_temperature_0_of_a_model_is_kept(checkpoint: Folder) -> None:
    """It takes the best token each time, as `temperature` 0 of a request does."""
    model = eager_model(checkpoint("gpt2_writer"))
    model.generation_config.update(temperature=0.0, top_p=0.0, do_sample=True)
    defaults = read_facts(model, 48).defaults
    values = {**dict.fromkeys(sampling_fields(9)), "stop": ()}
    assert (defaults["temperature"], defaults["top_p"]) == (0.0, 0.0)
    assert make_settings(values, defaults).do_sample is False


def test_a_padding_token_that_is_none_is_not_taken(checkpoint: Folder, tmp_path: Path) -> None:
    """Old LLaMAs say -1, which has no embedding."""
    model = copy(checkpoint("gpt2_writer"), tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        edit_json(model / name, pad_token_id=-1)
    source = load_source(config_for(tmp_path, model, mode="text_generation"))
    assert source.model.generation_config.pad_token_id == -1
    assert source.pad_id == source.model.generation_config.eos_token_id == 0


def test_archive_asks_for_continuous_batching(checkpoint: Folder, tmp_path: Path) -> None:
    model = checkpoint("gpt2_writer")
    config = config_for(tmp_path, model, mode="text_generation", batch_size=5)
    settings = yaml.safe_load(model_config(config))
    # More than are open at once: a worker can refuse only what it is given.
    assert settings["batchSize"] > 5 * REQUESTS_PER_ROW
    assert settings["continuousBatching"] is True
    assert "continuousBatching" not in yaml.safe_load(model_config(config_for(tmp_path, model)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_length": 8}, ["max_length is 8", "at least 16"]),
        (
            {"max_length": 5000},
            ["max_batch_tokens is 4096", "one request may hold 5000", "lower max_length"],
        ),
        (
            {"mode": "text2text_generation", "max_length": 3000},
            ["one request may hold 6000", "raise it"],
        ),
        ({"max_batch_tokens": 3}, ["max_batch_tokens", "greater than or equal to 4"]),
        ({"max_batch_tokens": 10**8}, ["max_batch_tokens", "less than or equal to 10000000"]),
        ({"default_max_new_tokens": 0}, ["default_max_new_tokens", "equal to 1"]),
        ({"pooling": "cls"}, ["pooling is for the mode feature_extraction"]),
        (
            {"mode": "fill_mask", "max_batch_tokens": 100},
            ["max_batch_tokens is for the mode text_generation and text2text_generation"],
        ),
    ],
)
def test_config_is_refused(tmp_path: Path, settings: dict[str, Any], words: list[str]) -> None:
    with refused(*words) as refusal:
        config_for(tmp_path, tmp_path, **{"mode": "text_generation", **settings})
    assert refusal.sentence


def test_normalised_config_is_read_again(artifact: Folder) -> None:
    """Of a mode that has no use for the keys, too."""
    for name in ("gpt2_writer", "bert"):
        assert load_config(artifact(name) / "setup_config.json").max_batch_tokens == 4096


def test_max_length_beyond_the_positions_is_refused(checkpoint: Folder, tmp_path: Path) -> None:
    config = config_for(tmp_path, checkpoint("gpt2_writer"), mode="text_generation", max_length=65)
    with refused("max_length is 65", "takes at most 64 tokens", "lower max_length"):
        export(config, tmp_path / "out")


def test_model_that_keeps_no_keys_and_values_is_refused(tmp_path: Path) -> None:
    model = MambaForCausalLM(
        MambaConfig(vocab_size=tiny.VOCABULARY, hidden_size=32, num_hidden_layers=2, state_size=4)
    )
    model.save_pretrained(tmp_path / "model")
    tiny.writing_tokenizer().save_pretrained(tmp_path / "model")
    config = config_for(tmp_path, tmp_path / "model", mode="text_generation")
    with refused("keeps LinearAttentionLayer from token to token", "choose another model"):
        export(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_mode_of_the_other_kind_is_refused(checkpoint: Folder, tmp_path: Path) -> None:
    config = config_for(tmp_path, checkpoint("t5_writer"), mode="text_generation")
    with refused(
        "architecture t5", "no text_generation head", 'set mode to "text2text_generation"'
    ):
        export(config, tmp_path / "out")
    config = config_for(tmp_path, checkpoint("gpt2_writer"), mode="text2text_generation")
    with refused("no text2text_generation head", 'set mode to "text_generation"'):
        export(config, tmp_path / "out")


def test_tokenizer_that_spells_otherwise_is_refused(
    checkpoint: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shouted(self: Any, token_ids: Any, **named: Any) -> str:
        return str(self.backend_tokenizer.decode(token_ids)).upper()

    config = config_for(tmp_path, checkpoint("gpt2_writer"), mode="text_generation")
    kind = type(AutoTokenizer.from_pretrained(checkpoint("gpt2_writer")))
    monkeypatch.setattr(kind, "_decode", shouted)
    with refused("spells tokens otherwise", "choose another model"):
        export(config, tmp_path / "out")


def test_samples_can_be_sent(tmp_path: Path) -> None:
    """Plain texts, or objects in the form of Hugging Face's text generation."""
    for mode in ("text_generation", "text2text_generation"):
        config = load_config(Path(__file__).parents[3] / "examples" / "modes" / f"{mode}.json")
        assert len(config.samples) > 1
        for sample in config.samples:
            if sample.startswith("{"):
                assert {"inputs", "parameters"} == json.loads(sample).keys()
