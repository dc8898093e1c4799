"""Tiny checkpoints and their artifacts, each made once a run."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tests import tiny
from tests.exports import Exports, common, once
from tests.tally import Tally
from tests.wrong.rows import Sample
from torchscript_bundle.export.config import load_config

# Tiny models gain nothing from threads, and lose much where others use the cores.
torch.set_num_threads(1)

THREE = ("SAD", "SO-SO", "GLAD")
NLI = ("contradiction", "neutral", "entailment")
ENTITIES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC")

#: name -> what saves its checkpoint into a folder.
CHECKPOINTS: dict[str, Callable[[Path], Path]] = {
    "bert": partial(tiny.save_checkpoint, labels=THREE),
    "bert_cut_left": lambda folder: tiny.save_checkpoint(
        folder, tokenizer=tiny.wordpiece_tokenizer(truncation_side="left")
    ),
    "distilbert": partial(tiny.save_checkpoint, make_model=tiny.distilbert),
    "roberta": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta, tiny.byte_level_tokenizer()
    ),
    "fixed_length": partial(tiny.save_checkpoint, make_model=tiny.fixed_length),
    "fixed_shape": partial(tiny.save_checkpoint, make_model=tiny.fixed_shape),
    "bart": lambda folder: tiny.save_checkpoint(folder, tiny.bart, tiny.byte_level_tokenizer()),
    "gpt2": lambda folder: tiny.save_checkpoint(
        folder, tiny.gpt2, tiny.byte_level_tokenizer(), THREE
    ),
    "convbert": partial(tiny.save_checkpoint, make_model=tiny.convbert),
    "padded_tokenizer": lambda folder: tiny.save_checkpoint(
        folder, tokenizer=tiny.fixed_padding_tokenizer()
    ),
    "multi_label": partial(
        tiny.save_checkpoint, labels=THREE, problem_type="multi_label_classification"
    ),
    "one_label": partial(tiny.save_checkpoint, labels=("SPAM",)),
    "regression": partial(tiny.save_checkpoint, labels=("STARS",), problem_type="regression"),
    "bert_ner": lambda folder: tiny.save_checkpoint(
        folder, tiny.bert_ner, tiny.spelling_wordpiece_tokenizer(), ENTITIES
    ),
    "roberta_ner": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta_ner, tiny.spelling_byte_level_tokenizer(), ENTITIES
    ),
    "unigram_ner": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta_ner, tiny.unigram_tokenizer(), ENTITIES
    ),
    "bert_mlm": lambda folder: tiny.save_checkpoint(
        folder,
        tiny.bert_mlm,
        tiny.spelling_wordpiece_tokenizer(clean_up_tokenization_spaces=True),
    ),
    "bare_mlm": partial(tiny.save_checkpoint, make_model=tiny.bert_mlm),
    "roberta_mlm": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta_mlm, tiny.spelling_byte_level_tokenizer()
    ),
    "unigram_mlm": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta_mlm, tiny.unigram_tokenizer()
    ),
    "bert_embedding": tiny.save_sentence_encoder,
    "roberta_embedding": lambda folder: tiny.save_sentence_encoder(
        folder,
        tiny.roberta_base,
        tiny.byte_level_tokenizer(),
        pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
        normalize=False,
        prompts={"query": "query: ", "document": ""},
    ),
    "unigram_embedding": lambda folder: tiny.save_sentence_encoder(
        folder,
        tiny.roberta_base,
        tiny.unigram_tokenizer(),
        prompts={"passage": "passage: ", "query": "query: "},
        default_prompt_name="passage",
    ),
    "llama_embedding": lambda folder: tiny.save_sentence_encoder(
        folder,
        tiny.llama_base,
        tiny.byte_level_tokenizer(padding_side="left"),
        pooling={"pooling_mode": "lasttoken"},
    ),
    "bert_sparse": tiny.save_sparse_encoder,
    "roberta_sparse": lambda folder: tiny.save_sparse_encoder(
        folder,
        tiny.roberta_mlm,
        tiny.spelling_byte_level_tokenizer(),
        pooling={"pooling_strategy": "sum", "activation_function": "log1p_relu"},
        prompts={"query": "query: ", "document": ""},
        max_active_dims=40,
    ),
    "unigram_sparse": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta_mlm, tiny.unigram_tokenizer()
    ),
    "bert_reranker": partial(tiny.save_checkpoint, labels=("SCORE",)),
    "roberta_reranker": lambda folder: tiny.save_checkpoint(
        folder,
        tiny.roberta,
        tiny.byte_level_tokenizer(),
        ("SCORE",),
        sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"},
    ),
    "unigram_reranker": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta, tiny.unigram_tokenizer(), ("SCORE",)
    ),
    "bert_qa": partial(tiny.save_checkpoint, make_model=tiny.bert_qa),
    "roberta_qa": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta_qa, tiny.byte_level_tokenizer()
    ),
    "left_qa": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta_qa, tiny.left_padding_tokenizer()
    ),
    "bare_qa": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta_qa, tiny.unigram_tokenizer()
    ),
    "bert_nli": partial(tiny.save_checkpoint, labels=NLI),
    "roberta_nli": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta, tiny.byte_level_tokenizer(), ("entailment", "not_entailment")
    ),
    "left_nli": lambda folder: tiny.save_checkpoint(
        folder, tiny.roberta, tiny.left_padding_tokenizer(), NLI
    ),
    "gpt2_writer": lambda folder: tiny.save_checkpoint(
        folder, tiny.gpt2_lm, tiny.writing_tokenizer(pad_token=None)
    ),
    "llama_writer": lambda folder: tiny.save_checkpoint(
        folder, tiny.llama_lm, tiny.writing_tokenizer(chat_template=tiny.CHAT_TEMPLATE)
    ),
    "mistral_writer": lambda folder: tiny.save_checkpoint(
        folder, tiny.mistral_lm, tiny.writing_tokenizer()
    ),
    "t5_writer": lambda folder: tiny.save_checkpoint(folder, tiny.t5_lm, tiny.unigram_tokenizer()),
    "bart_writer": lambda folder: tiny.save_checkpoint(
        folder, tiny.bart_lm, tiny.spelling_byte_level_tokenizer()
    ),
}

#: Modes of those that are not for sequence classification.
MODES = {
    "bert_embedding": "feature_extraction",
    "roberta_embedding": "feature_extraction",
    "unigram_embedding": "feature_extraction",
    "llama_embedding": "feature_extraction",
    "bert_sparse": "sparse_embedding",
    "roberta_sparse": "sparse_embedding",
    "unigram_sparse": "sparse_embedding",
    "bert_reranker": "reranking",
    "roberta_reranker": "reranking",
    "unigram_reranker": "reranking",
    "bert_ner": "token_classification",
    "roberta_ner": "token_classification",
    "unigram_ner": "token_classification",
    "bert_mlm": "fill_mask",
    "bare_mlm": "fill_mask",
    "roberta_mlm": "fill_mask",
    "unigram_mlm": "fill_mask",
    "bert_qa": "question_answering",
    "roberta_qa": "question_answering",
    "left_qa": "question_answering",
    "bare_qa": "question_answering",
    "bert_nli": "zero_shot_classification",
    "roberta_nli": "zero_shot_classification",
    "left_nli": "zero_shot_classification",
    "gpt2_writer": "text_generation",
    "llama_writer": "text_generation",
    "mistral_writer": "text_generation",
    "t5_writer": "text2text_generation",
    "bart_writer": "text2text_generation",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.hookimpl(tryfirst=True)  # before fixtures draw
def pytest_runtest_setup() -> None:
    """What a test draws and logs does not depend on those before it, which differ in each run."""
    torch.manual_seed(0)
    # A command that a test ran in this process may have set it.
    logging.getLogger("torchscript_bundle").setLevel(logging.NOTSET)


#: Fixtures of servers that several files use.
SERVERS = ("tiny_site", "writer_site")


def _group(item: pytest.Item) -> str:
    """Return the group of a test: a mode, a server or a file. A group runs in one process."""
    callspec = getattr(item, "callspec", None)
    sample = callspec.params.get("sample") if callspec is not None else None
    if isinstance(sample, Sample):
        return sample.mode
    used = getattr(item, "fixturenames", ())
    return next((server for server in SERVERS if server in used), str(item.path))


TALLY = pytest.StashKey[Tally]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Of several processes, each tells the first what it has counted."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tally"] = session.config.stash[TALLY].dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    node.config.stash[TALLY].add(getattr(node, "workeroutput", {}).get("tally", []))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What random requests got, in numbers."""
    for line in config.stash[TALLY].lines():
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Tally:
    """Takes counts that are told at the end of the run."""
    return pytestconfig.stash[TALLY]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A name of `CHECKPOINTS` -> the checkpoint's folder."""
    root = common(tmp_path_factory, "checkpoints")
    return cache(lambda name: once(root / name, _save))


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Exports by content, common to all processes of a run."""
    return Exports(common(tmp_path_factory, "exports"))


@pytest.fixture(scope="session")
def artifact(
    exports: Exports,
    checkpoint: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """A name of `CHECKPOINTS` -> the folder of its artifact; do not write into it."""
    root = common(tmp_path_factory, "artifacts")
    return cache(lambda name: once(root / name, lambda to: _export(exports, checkpoint(name), to)))


@pytest.fixture(scope="session")
def eager_artifact(
    exports: Exports,
    checkpoint: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Path]:
    """The same with `save_mode: "pretrained"`."""
    root = common(tmp_path_factory, "eager_artifacts")
    settings = {"save_mode": "pretrained"}

    @cache
    def make(name: str) -> Path:
        return once(root / name, lambda to: _export(exports, checkpoint(name), to, **settings))

    return make


@pytest.fixture(scope="session")
def explained(
    exports: Exports,
    checkpoint: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """The same of an artifact that explains its answers, in either save mode."""
    root = common(tmp_path_factory, "explained")

    @cache
    def make(name: str, save_mode: str = "torchscript") -> Path:
        settings = {"captum_explanation": True, "save_mode": save_mode}
        to = root / save_mode / name
        return once(to, lambda to: _export(exports, checkpoint(name), to, **settings))

    return make


def _save(to: Path) -> None:
    """A checkpoint by its folder's name, with a config beside it that tests read."""
    CHECKPOINTS[to.name](to)
    mode = MODES.get(to.name, "sequence_classification")
    facts = {"model_name": "./", "mode": mode, "max_length": 64, "traced_lengths": [16, 32]}
    (to / "setup_config.json").write_text(json.dumps(facts))


def _export(exports: Exports, checkpoint: Path, to: Path, **settings: Any) -> None:
    """The artifact of a checkpoint's config, some of it changed."""
    config = checkpoint / "setup_config.json"
    if settings:
        facts = json.loads(config.read_text())
        config = to.with_suffix(".json")
        config.write_text(json.dumps({**facts, "model_name": str(checkpoint), **settings}))
    exports.write(load_config(config), checkpoint, to)
