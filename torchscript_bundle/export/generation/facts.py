"""The facts about its model that a generator needs besides the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.serving.api.sampling import NEUTRAL, wrong_defaults

#: Settings that are read here, or do not affect which token comes next.
_READ = {
    *NEUTRAL,
    *("eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id"),
    *("forced_bos_token_id", "forced_eos_token_id", "max_length", "max_new_tokens"),
    *("transformers_version", "use_cache", "cache_implementation", "return_dict_in_generate"),
    *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
}


@dataclass(frozen=True)
class GeneratorFacts:
    """The arguments of `jit.generation.generator.Generator` that come from a model, and more.

    `defaults` are the model's values of the parameters in `NEUTRAL`; `ignored` are its other
    settings, which only `generate` follows.
    """

    max_length: int
    max_source_length: int
    eos_ids: tuple[int, ...]
    pad_id: int
    start_id: int = -1
    first_id: int = -1
    last_id: int = -1
    defaults: dict[str, bool | int | float] = field(default_factory=lambda: dict(NEUTRAL))
    ignored: tuple[str, ...] = ()


def read_facts(
    model: Any, max_length: int, max_source_length: int = 0, pad_id: int | None = None
) -> GeneratorFacts:
    """Read the generation config of a model that has a `generate` of its own.

    `max_length` and `max_source_length` limit the rows of decoder and encoder. `pad_id` is the
    tokenizer's, else the model's, else a token that ends a text. ExportError: an encoder-decoder
    has no start token, or no request could send a setting.
    """
    config = model.generation_config
    eos = config.eos_token_id
    eos_ids = () if eos is None else tuple(eos) if isinstance(eos, list) else (int(eos),)
    seq2seq = bool(model.config.is_encoder_decoder)
    start = _first_given(config.decoder_start_token_id, config.bos_token_id) if seq2seq else -1
    if start is None:
        raise ExportError(
            "the model does not say what its answers begin with; set decoder_start_token_id in its "
            "generation_config.json"
        )
    padding = _first_given(pad_id, config.pad_token_id, *eos_ids, 0)
    assert padding is not None
    given = {
        name: value
        for name, value in config.to_diff_dict().items()
        if value is not None and not name.startswith("_")
    }
    defaults = {name: given.get(name, value) for name, value in NEUTRAL.items()}
    if wrong := wrong_defaults(defaults):
        raise ExportError(
            f"generation_config.json: {'; '.join(wrong.values())}; every request that does not say "
            "otherwise would be written with that: set another value there, or remove it"
        )
    return GeneratorFacts(
        max_length=max_length,
        max_source_length=max_source_length if seq2seq else 0,
        eos_ids=eos_ids,
        pad_id=padding,
        start_id=start,
        first_id=_forced(config.forced_bos_token_id) if seq2seq else -1,
        last_id=_forced(config.forced_eos_token_id),
        defaults=defaults,
        ignored=tuple(sorted(set(given) - _READ)),
    )


def _first_given(*ids: Any) -> int | None:
    """Return the first id that is not None; of a list, its first."""
    given = next((each for each in ids if each is not None), None)
    return given[0] if isinstance(given, list) else given


def _forced(token: Any) -> int:
    one = _first_given(token)
    return -1 if one is None else one
