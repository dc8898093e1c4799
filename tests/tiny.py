"""Tiny random models with real tokenizers, saved as ordinary Hugging Face checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BartConfig,
    BartForConditionalGeneration,
    BartForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ConvBertConfig,
    ConvBertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Gemma3TextConfig,
    Gemma3TextModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

CORPUS = [
    "The film was long and the ending was a surprise to all of us.",
    "We waited an hour for cold soup, and nobody said sorry.",
    "It works as described; the battery lasts two days.",
    "Not bad at all, I would stay there again with my family.",
    "Café, naïve, Übergröße: accents and umlauts are in here too.",
]
SIZES = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
VOCABULARY = 300
#: Like those of chat models: a role, a text and an end for each message.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
LLAMA = {
    "vocab_size": VOCABULARY,
    "intermediate_size": 64,
    "num_key_value_heads": 2,
    **SIZES,
}


def wordpiece_tokenizer(lowercase: bool = True, **options: Any) -> PreTrainedTokenizerFast:
    """A BERT-style tokenizer of the words of `CORPUS`."""
    normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer = Tokenizer(models.WordPiece(_word_pieces(normalizer), unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {f"{r}_token": f"[{r.upper()}]" for r in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
        **options,
    )


def _word_pieces(normalizer: normalizers.Normalizer) -> dict[str, int]:
    """Letters, words and halves of every other long word: the same at every call.

    What tokenizers' trainer makes of a small corpus differs from process to process.
    """
    text = normalizer.normalize_str(" ".join(CORPUS))
    words = sorted({word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)})
    letters = sorted({letter for word in words for letter in word})
    torn = [word for word in words[::2] if len(word) > 3]
    halves = [half for word in torn for half in (word[:3], f"##{word[3:]}")]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*special, *letters, *(f"##{each}" for each in letters), *halves]
    pieces += [word for word in words if word not in torn]
    distinct = list(dict.fromkeys(pieces))[:VOCABULARY]
    return {piece: at for at, piece in enumerate(distinct)}


def fixed_padding_tokenizer() -> PreTrainedTokenizerFast:
    """Saved with padding and truncation of its own, as many sentence encoders are."""
    tokenizer = wordpiece_tokenizer()
    tokenizer.backend_tokenizer.enable_padding(length=128)
    tokenizer.backend_tokenizer.enable_truncation(128)
    return tokenizer


def byte_level_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """A RoBERTa-style byte-level BPE tokenizer, without token types."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        **options,
    )


def spelling_wordpiece_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """The same with case and with BERT's decoder, which joins subwords."""
    tokenizer = wordpiece_tokenizer(lowercase=False, **options)
    tokenizer.backend_tokenizer.decoder = decoders.WordPiece(cleanup=False)
    return tokenizer


def spelling_byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """RoBERTa's decoder as well."""
    tokenizer = byte_level_tokenizer()
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def writing_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """GPT-2-style: byte-level, nothing put around a text."""
    tokenizer = spelling_byte_level_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    for name, value in options.items():
        setattr(tokenizer, name, value)
    return tokenizer


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """An XLM-R-style tokenizer, whose tokens mark where words begin."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = [*[(each, 0.0) for each in special], *_unigrams()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
    )


def _unigrams() -> list[tuple[str, float]]:
    """Letters, every other word, and halves of the others, with scores; see `_word_pieces`."""
    words = sorted({f"▁{word}" for text in CORPUS for word in text.split()})
    letters = sorted({letter for word in words for letter in word})
    halves = [half for word in words[::2] for half in (word[:4], word[4:]) if half]
    scored = [(words[1::2], -5.0), (halves, -4.0), (letters, -8.0)]
    found: dict[str, float] = {}
    for pieces, score in scored:
        for piece in pieces:
            found.setdefault(piece, score)
    return list(found.items())


def left_padding_tokenizer() -> PreTrainedTokenizerFast:
    """An XLNet-style tokenizer: padding on the left, `<cls>` at the end."""
    backend = unigram_tokenizer().backend_tokenizer
    backend.add_special_tokens(["<cls>"])
    ends = [(name, backend.token_to_id(name)) for name in ("</s>", "<cls>")]
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s> <cls>", pair="$A </s> $B </s> <cls>", special_tokens=ends
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
        padding_side="left",
        cls_token="<cls>",
        sep_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
    )


def bert(**options: Any) -> Any:
    """Exact at any batch and length."""
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=64, **SIZES, **options)
    return BertForSequenceClassification(config)


def distilbert(**options: Any) -> Any:
    """The same without token types."""
    config = DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_heads=4, n_layers=2, hidden_dim=64, **options
    )
    return DistilBertForSequenceClassification(config)


def roberta(**options: Any) -> Any:
    """Positions start after the padding id."""
    config = RobertaConfig(
        vocab_size=VOCABULARY,
        intermediate_size=64,
        max_position_embeddings=514,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
        **SIZES,
        **options,
    )
    return RobertaForSequenceClassification(config)


class FixedLengthConfig(BertConfig):
    model_type = "fixed_length"


class FixedLength(BertForSequenceClassification):
    """A BERT that lists its positions in Python: a trace keeps those of its example."""

    config_class = FixedLengthConfig

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **named: Any,
    ) -> Any:
        positions = torch.tensor([list(range(input_ids.shape[1]))], device=input_ids.device)
        return super().forward(
            input_ids, attention_mask, token_type_ids, position_ids=positions, **named
        )


AutoConfig.register("fixed_length", FixedLengthConfig)
AutoModelForSequenceClassification.register(FixedLengthConfig, FixedLength)


def fixed_length(**options: Any) -> Any:
    """Exact at any batch, at traced lengths only."""
    config = FixedLengthConfig(vocab_size=VOCABULARY, intermediate_size=64, **SIZES, **options)
    return FixedLength(config)


class FixedShapeConfig(BertConfig):
    model_type = "fixed_shape"


class FixedShape(BertForSequenceClassification):
    """A BERT that asks in Python for the shape of its rows: a trace keeps that of its example."""

    config_class = FixedShapeConfig

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **named: Any,
    ) -> Any:
        batch, length = map(int, input_ids.shape)
        input_ids = input_ids.view(batch, length)
        return super().forward(input_ids, attention_mask, token_type_ids, **named)


AutoConfig.register("fixed_shape", FixedShapeConfig)
AutoModelForSequenceClassification.register(FixedShapeConfig, FixedShape)


def fixed_shape(**options: Any) -> Any:
    """Exact at traced batch and traced lengths only."""
    config = FixedShapeConfig(vocab_size=VOCABULARY, intermediate_size=64, **SIZES, **options)
    return FixedShape(config)


def bart(**options: Any) -> Any:
    """Pools at the end of sentence, and wants as many of them in every row of a batch."""
    options.pop("initializer_range", None)
    config = BartConfig(
        vocab_size=VOCABULARY,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=512,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        init_std=0.5,
        **options,
    )
    return BartForSequenceClassification(config)


def convbert(**options: Any) -> Any:
    """Its convolutions read padding in spite of the mask."""
    config = ConvBertConfig(
        vocab_size=VOCABULARY,
        embedding_size=32,
        intermediate_size=64,
        **SIZES,
        **options,
    )
    return ConvBertForSequenceClassification(config)


def bert_mlm(**options: Any) -> Any:
    """A masked LM whose output layer is tied to its embedding."""
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=64, **SIZES, **options)
    return BertForMaskedLM(config)


def bert_ner(**options: Any) -> Any:
    """Labels each token."""
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=64, **SIZES, **options)
    return BertForTokenClassification(config)


def roberta_ner(**options: Any) -> Any:
    """The same, for tokenizers whose padding is token 1."""
    return RobertaForTokenClassification(roberta(**options).config)


def roberta_mlm(**options: Any) -> Any:
    """A masked LM for tokenizers whose padding is token 1."""
    return RobertaForMaskedLM(roberta(**options).config)


def bert_qa(**options: Any) -> Any:
    """Says where in a context an answer starts and ends."""
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=64, **SIZES, **options)
    return BertForQuestionAnswering(config)


def roberta_qa(**options: Any) -> Any:
    """The same, for tokenizers whose padding is token 1."""
    return RobertaForQuestionAnswering(roberta(**options).config)


def gpt2(**options: Any) -> Any:
    """The last real token decides, found by looking for padding in the ids."""
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=512, n_embd=32, n_layer=2, n_head=4, pad_token_id=1
    )
    config.update(options)
    return GPT2ForSequenceClassification(config)


def gpt2_lm(**options: Any) -> Any:
    """A causal LM with learned positions, tied as well."""
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_head=4,
        n_layer=2,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
        **options,
    )
    return GPT2LMHeadModel(config)


def llama_lm(**options: Any) -> Any:
    """A causal LM with rotary positions, and fewer key heads than query heads."""
    return LlamaForCausalLM(LlamaConfig(**LLAMA, **options))


def mistral_lm(**options: Any) -> Any:
    """The same whose attention looks back four tokens."""
    return MistralForCausalLM(MistralConfig(sliding_window=4, **LLAMA, **options))


def t5_lm(**options: Any) -> Any:
    """An encoder-decoder with relative positions, whose answers begin with padding."""
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        initializer_factor=16 * options.pop("initializer_range"),  # else it repeats itself
        tie_word_embeddings=False,
        **options,
    )
    return T5ForConditionalGeneration(config)


def t5_encoder(**options: Any) -> Any:
    """Its encoder alone."""
    return T5EncoderModel(t5_lm(**options).config)


def bart_lm(**options: Any) -> Any:
    """An encoder-decoder with learned positions."""
    return BartForConditionalGeneration(bart(**options, tie_word_embeddings=False).config)


def bert_base(**options: Any) -> Any:
    """An encoder without a head, and without the pooler that such a one may have."""
    config = BertConfig(vocab_size=VOCABULARY, intermediate_size=64, **SIZES, **options)
    return BertModel(config, add_pooling_layer=False)


def roberta_base(**options: Any) -> Any:
    """The same with its pooler."""
    return RobertaModel(roberta(**options).config)


def llama_base(**options: Any) -> Any:
    """A decoder without a head."""
    return LlamaModel(LlamaConfig(**LLAMA, **options))


def gemma3_base(**options: Any) -> Any:
    """A decoder without a head whose tokens see each other on both sides, in windows and whole."""
    kinds = ["sliding_attention", "full_attention"]
    settings = {"head_dim": 8, "sliding_window": 8, "use_bidirectional_attention": True}
    config = Gemma3TextConfig(layer_types=kinds, pad_token_id=1, **settings, **LLAMA, **options)
    return Gemma3TextModel(config)


def save_checkpoint(
    folder: Path,
    make_model: Callable[..., Any] = bert,
    tokenizer: PreTrainedTokenizerFast | None = None,
    labels: tuple[str, ...] = ("NEGATIVE", "POSITIVE"),
    **options: Any,
) -> Path:
    """Writes a random checkpoint whose logits are well apart; the same at every call."""
    torch.manual_seed(0)
    id2label = dict(enumerate(labels))
    model = make_model(
        id2label=id2label,
        label2id={name: index for index, name in id2label.items()},
        initializer_range=0.5,
        **options,
    )
    model.save_pretrained(folder)
    (tokenizer or wordpiece_tokenizer()).save_pretrained(folder)
    return folder


def save_sentence_encoder(
    folder: Path,
    make_model: Callable[..., Any] = bert_base,
    tokenizer: PreTrainedTokenizerFast | None = None,
    pooling: dict[str, Any] | None = None,
    normalize: bool = True,
    **settings: Any,
) -> Path:
    """Writes a random checkpoint as sentence-transformers saves one.

    Args:
        folder: where.
        make_model: makes a model without a head.
        tokenizer: its own.
        pooling: the config of its Pooling.
        normalize: whether it ends in Normalize.
        settings: its `config_sentence_transformers.json`.
    """
    save_checkpoint(folder, make_model, tokenizer)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    paths = ["", *(f"{at}_{kind}" for at, kind in enumerate(kinds) if at)]
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for at, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "1_Pooling").mkdir()
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {
            "word_embedding_dimension": SIZES["hidden_size"],
            **(pooling or {"pooling_mode": "mean"}),
        },
        "config_sentence_transformers.json": settings,
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return folder


def save_sparse_encoder(
    folder: Path,
    make_model: Callable[..., Any] = bert_mlm,
    tokenizer: PreTrainedTokenizerFast | None = None,
    pooling: dict[str, Any] | None = None,
    **settings: Any,
) -> Path:
    """Writes a random masked language model as sentence-transformers saves a SparseEncoder.

    `pooling` is the config of its SpladePooling, `settings` its
    `config_sentence_transformers.json`.
    """
    save_checkpoint(folder, make_model, tokenizer)
    kinds = {"MLMTransformer": "", "SpladePooling": "1_SpladePooling"}
    modules = [
        {"path": path, "type": f"sentence_transformers.sparse_encoder.models.{kind}"}
        for kind, path in kinds.items()
    ]
    (folder / "1_SpladePooling").mkdir()
    files = {
        "modules.json": [{"idx": at, "name": str(at), **each} for at, each in enumerate(modules)],
        "1_SpladePooling/config.json": pooling or {"pooling_strategy": "max"},
        "config_sentence_transformers.json": {"model_type": "SparseEncoder", **settings},
    }
    for name, value in files.items():
        (folder / name).write_text(json.dumps(value))
    return folder


MODELING_BRANCHING = """
import torch
from transformers import BertForSequenceClassification

from .configuration_branching import BranchingConfig


class Branching(BertForSequenceClassification):
    config_class = BranchingConfig

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, **named):
        output = super().forward(input_ids, attention_mask, token_type_ids, **named)
        pairs = zip(input_ids, output.logits)
        rows = [-logits if int(ids.sum()) % 2 else logits for ids, logits in pairs]
        output.logits = torch.stack(rows)
        return output
"""
CONFIGURATION_BRANCHING = """
from transformers import BertConfig


class BranchingConfig(BertConfig):
    model_type = "branching"
"""


def save_branching(folder: Path) -> Path:
    """Writes a checkpoint with code of its own that asks, text by text, what is in it."""
    save_checkpoint(folder)
    (folder / "modeling_branching.py").write_text(MODELING_BRANCHING)
    (folder / "configuration_branching.py").write_text(CONFIGURATION_BRANCHING)
    config = json.loads((folder / "config.json").read_text())
    code = {
        "AutoConfig": "configuration_branching.BranchingConfig",
        "AutoModelForSequenceClassification": "modeling_branching.Branching",
    }
    changes = {"model_type": "branching", "architectures": ["Branching"], "auto_map": code}
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder
