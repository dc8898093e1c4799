"""Make archives as the TorchServe Hugging Face example made them, with an old transformers.

Run it in an environment of its own: `python make.py NAME [NAME ...]`, or without a name to list
them. README.md says which versions made the files beside it. The steps are those of the example's
Download_Transformer_models.py and of its README, the answers those of its handler.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
import yaml

HERE = Path(__file__).resolve().parent
LENGTH = 150
TEXTS = 50
DECIMALS = 6
WORDS = [
    "the",
    "a",
    "an",
    "of",
    "to",
    "in",
    "it",
    "was",
    "is",
    "not",
    "and",
    "but",
    "very",
    "good",
    "bad",
    "film",
    "food",
    "service",
    "hotel",
    "room",
    "phone",
    "battery",
    "we",
    "they",
    "i",
    "you",
    "he",
    "she",
    "went",
    "came",
    "stayed",
    "waited",
    "liked",
    "hated",
    "loved",
    "again",
    "never",
    "always",
    "Paris",
    "London",
    "Berlin",
    "Alice",
    "Bob",
    "Acme",
    "Monday",
    "river",
    "mountain",
    "city",
    "company",
    "works",
    "broke",
    "arrived",
    "late",
    "early",
    "cold",
    "hot",
    "soup",
    "tea",
    "surprise",
    "ending",
    "story",
    "actor",
    "price",
    "cheap",
]
#: What the example's handler must not do here: adopting never runs code of an archive.
HANDLER = "raise SystemExit('the handler of an old archive was run')\n"
LABELS = {
    "sequence_classification": {"0": "Not Accepted", "1": "Accepted"},
    "token_classification": {"label_list": "[O, B-PER, I-PER, B-LOC, I-LOC]"},
}
#: Name -> architecture, mode, save mode, whether the archive has the config as YAML, a tokenizer.
ARCHIVES = {
    "bert_sequence": ("bert", "sequence_classification", "torchscript", True, False),
    "roberta_sequence": ("roberta", "sequence_classification", "torchscript", False, True),
    "distilbert_tokens": ("distilbert", "token_classification", "torchscript", False, False),
    "electra_qa": ("electra", "question_answering", "torchscript", True, False),
    "bert_qa": ("bert", "question_answering", "torchscript", False, False),
    "bert_tokens": ("bert", "token_classification", "torchscript", False, False),
    "bert_pretrained": ("bert", "sequence_classification", "pretrained", False, False),
    "distilbert_pretrained": ("distilbert", "sequence_classification", "pretrained", True, False),
}
HEADS = {
    "sequence_classification": transformers.AutoModelForSequenceClassification,
    "token_classification": transformers.AutoModelForTokenClassification,
    "question_answering": transformers.AutoModelForQuestionAnswering,
}


def make_tokenizer(kind: str, folder: Path) -> None:
    """Write the vocabulary of a tokenizer: words and letters, or bytes."""
    if kind == "roberta":
        from transformers.models.gpt2.tokenization_gpt2 import bytes_to_unicode

        tokens = ["<s>", "<pad>", "</s>", "<unk>", *bytes_to_unicode().values(), "<mask>"]
        vocabulary = {token: index for index, token in enumerate(tokens)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
        (folder / "merges.txt").write_text("#version: 0.2\n", "utf-8")
        return
    letters = [chr(code) for code in range(33, 127)]
    words = sorted({word.lower() for word in WORDS} - {*letters})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    tokens += [f"##{letter}" for letter in letters] + words
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")


def make_checkpoint(kind: str, mode: str, folder: Path) -> None:
    """Write a tiny random model and its tokenizer as `save_pretrained` does."""
    make_tokenizer(kind, folder)
    sizes = {"vocab_size": 320, "max_position_embeddings": 160, "initializer_range": 0.4}
    if mode != "question_answering":
        sizes["num_labels"] = 2 if mode == "sequence_classification" else 5
    if kind == "distilbert":
        sizes |= {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    else:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        sizes |= {"intermediate_size": 64}
    if kind == "electra":
        sizes["embedding_size"] = 32
    if kind == "roberta":
        sizes |= {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = transformers.AutoConfig.for_model(kind, **sizes)
    torch.manual_seed(3)
    HEADS[mode].from_config(config).save_pretrained(folder)
    config.save_pretrained(folder)


def load_tokenizer(kind: str, folder: Path, lower: bool):
    """Load the tokenizer; the Auto class of 4.11 needs a package without wheels for 3.11."""
    try:
        return transformers.AutoTokenizer.from_pretrained(folder, do_lower_case=lower)
    except ModuleNotFoundError:
        return transformers.BertTokenizer(str(folder / "vocab.txt"), do_lower_case=lower)


def random_texts(mode: str) -> list[str]:
    """Return texts, or questions and contexts in the form that the example's clients sent."""
    draw = random.Random(mode)

    def text(least: int, most: int) -> str:
        return " ".join(draw.choice(WORDS) for _ in range(draw.randint(least, most))) + "."

    if mode == "question_answering":
        return [str({"question": text(3, 8), "context": text(5, 60)}) for _ in range(TEXTS)]
    return [text(1, 12 if number % 4 else 100) for number in range(TEXTS)]


def encode(tokenizer, mode: str, given: str):
    """Return ids and mask as the old handler made them."""
    texts = (given,)
    if mode == "question_answering":
        asked = eval(given)  # noqa: S307  (our own literal, as the old handler read it)
        texts = (asked["question"], asked["context"])
    encoded = tokenizer.encode_plus(
        *texts,
        max_length=LENGTH,
        pad_to_max_length=True,
        add_special_tokens=True,
        return_tensors="pt",
    )
    return encoded["input_ids"], encoded["attention_mask"]


def answers(model, tokenizer, mode: str) -> list[dict]:
    """Return what the old handler computed for each text."""
    found = []
    for given in random_texts(mode):
        ids, mask = encode(tokenizer, mode, given)
        with torch.no_grad():
            outputs = model(ids, mask)
        outputs = list(outputs.values()) if isinstance(outputs, dict) else list(outputs)
        size = int(mask.sum())
        rows = []
        if mode == "sequence_classification":
            rows = [rounded(outputs[0][0])]
        if mode == "question_answering":
            rows = [rounded(output[0][:size]) for output in outputs[:2]]
        if mode == "token_classification":
            rows = [outputs[0][0][:size].argmax(-1).tolist()]
        found.append({"text": given, "tokens": size, "outputs": rows})
    return found


def rounded(row: torch.Tensor) -> list[float]:
    """Return numbers that are short enough for a file."""
    return [round(number, DECIMALS) for number in row.tolist()]


def make(name: str) -> None:
    """Make one archive, and what its handler answered beside it."""
    kind, mode, save_mode, _, with_tokenizer = ARCHIVES[name]
    lower = kind != "roberta"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        checkpoint, made = folder / "tiny", folder / "Transformer_model"
        checkpoint.mkdir(), made.mkdir()
        make_checkpoint(kind, mode, checkpoint)
        scripted = save_mode == "torchscript"
        config = transformers.AutoConfig.from_pretrained(checkpoint, torchscript=scripted)
        model = HEADS[mode].from_pretrained(checkpoint, config=config)
        tokenizer = load_tokenizer(kind, checkpoint, lower)
        model.eval()
        if scripted:
            dummy = "This is a dummy input for torch jit trace"
            encoded = tokenizer.encode_plus(
                dummy,
                max_length=LENGTH,
                pad_to_max_length=True,
                add_special_tokens=True,
                return_tensors="pt",
            )
            traced = torch.jit.trace(model, (encoded["input_ids"], encoded["attention_mask"]))
            torch.jit.save(traced, made / "traced_model.pt")
            model = torch.jit.load(made / "traced_model.pt")
        else:
            model.save_pretrained(made)
        pack(name, folder, made, with_tokenizer and checkpoint)
        expected = {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "answers": answers(model, tokenizer, mode),
        }
    (HERE / f"{name}.json").write_text(json.dumps(expected) + "\n", "utf-8")
    tokenizers = HERE / f"{kind}_tokenizer"
    tokenizers.mkdir(exist_ok=True)
    make_tokenizer(kind, tokenizers)
    settings = {"tokenizer_class": "RobertaTokenizer" if kind == "roberta" else "BertTokenizer"}
    (tokenizers / "tokenizer_config.json").write_text(json.dumps(settings) + "\n", "utf-8")


def pack(name: str, folder: Path, made: Path, tokenizer: Path | bool) -> None:
    """Pack as the example's README says."""
    kind, mode, save_mode, in_yaml, _ = ARCHIVES[name]
    settings = {
        "model_name": f"{kind}_tokenizer",
        "mode": mode,
        "do_lower_case": kind != "roberta",
        "num_labels": "0" if mode == "question_answering" else str(len_labels(mode)),
        "save_mode": save_mode,
        "max_length": str(LENGTH),
        "captum_explanation": False,
        "embedding_name": kind,
        "FasterTransformer": False,
        "model_parallel": False,
    }
    weights = [each for each in sorted(made.iterdir()) if each.suffix in (".pt", ".bin")]
    weights += sorted(made.glob("*.safetensors"))
    extra = [made / "config.json"] if save_mode == "pretrained" else []
    if mode in LABELS:
        (folder / "index_to_name.json").write_text(json.dumps(LABELS[mode]), "utf-8")
        extra.append(folder / "index_to_name.json")
    if in_yaml:
        config = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 4, "handler": settings}
        (folder / "model-config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    else:
        (folder / "setup_config.json").write_text(json.dumps(settings, indent=1), "utf-8")
        extra.append(folder / "setup_config.json")
    if tokenizer:
        extra += [tokenizer / "vocab.json", tokenizer / "merges.txt", tokenizer / "config.json"]
    handler = folder / "Transformer_handler_generalized.py"
    handler.write_text(HANDLER, "utf-8")
    command = [sys.executable, "-m", "model_archiver.model_packaging", "--model-name", name]
    command += ["--version", "1.0", "--serialized-file", str(weights[0])]
    command += ["--handler", str(handler), "--export-path", str(folder), "--force"]
    command += ["--extra-files", ",".join(map(str, extra))] if extra else []
    command += ["--config-file", str(folder / "model-config.yaml")] if in_yaml else []
    subprocess.run(command, check=True)
    shutil.copy(folder / f"{name}.mar", HERE / f"{name}.mar")


def len_labels(mode: str) -> int:
    """Return the number of labels."""
    return 2 if mode == "sequence_classification" else 5


if __name__ == "__main__":
    for asked in sys.argv[1:] or [sys.exit("\n".join(ARCHIVES))]:
        make(asked)
