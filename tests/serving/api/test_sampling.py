"""The table of generation parameters, and the names that the saved sampler takes them by."""

from __future__ import annotations

import inspect

import pytest

from tests.jit.generation.helpers import adder, padded
from torchscript_bundle.jit.generation import Generator, Sampler
from torchscript_bundle.serving.api.sampling import (
    COLUMNS,
    NEUTRAL,
    PARAMETERS,
    Settings,
    make_settings,
    openai_fields,
    sampling_fields,
    usable_defaults,
)
from torchscript_bundle.serving.errors import RequestError


def test_columns_are_the_arguments_of_the_sampler() -> None:
    taken = ["logits", "seen", *COLUMNS, "draws"]
    schema = adder().sample.schema
    assert [each.name for each in schema.arguments[1:]] == taken
    assert [*inspect.signature(Sampler.forward).parameters][1:] == taken


def test_generate_takes_every_column_and_its_default_is_neutral() -> None:
    parameters = inspect.signature(Generator.generate).parameters
    assert {name: parameters[name].default for name in COLUMNS} == NEUTRAL


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "repetition_penalty"])
def test_bounds_are_those_of_the_saved_module(name: str) -> None:
    field = PARAMETERS[name].field
    known = [getattr(field, each) for each in ("least", "most")]
    for value in (known[0], known[1], known[0] - 1, known[1] + 1):
        try:
            field.check(value)
            refused = False
        except RequestError:
            refused = True
        if name == "top_k" and value > known[1]:
            continue  # the module takes any number, and no vocabulary is as large
        arguments = {"max_new_tokens": 1, name: value}
        assert refused == raises(arguments), (name, value)


def raises(arguments: dict[str, float]) -> bool:
    try:
        adder().generate(*padded([[1, 2]]), **arguments)
    except Exception as error:
        assert "must be" in str(error)
        return True
    return False


def test_defaults_of_the_table_change_nothing_and_are_allowed() -> None:
    settings = Settings()
    assert {name: getattr(settings, name) for name in COLUMNS} == NEUTRAL
    assert usable_defaults({}) == NEUTRAL


def test_openai_has_other_names_and_bounds() -> None:
    known, theirs = sampling_fields(9), openai_fields(9)
    assert known.keys() - theirs.keys() == {"do_sample"}
    assert theirs["max_new_tokens"].names == ("max_tokens", "max_completion_tokens")
    assert theirs["max_new_tokens"].bounds() == known["max_new_tokens"].bounds()
    with pytest.raises(RequestError, match="temperature must be a number"):
        theirs["temperature"].check(2.5)
    assert known["temperature"].check(2.5) == 2.5
    assert theirs["stop"].check("a") == ("a",)
    with pytest.raises(RequestError, match="stop must be a list"):
        known["stop"].check("a")


def test_a_parameter_of_sampling_implies_that_tokens_are_drawn() -> None:
    nothing = dict.fromkeys(PARAMETERS) | {"stop": ()}
    assert not make_settings(nothing, NEUTRAL).do_sample
    assert not make_settings({**nothing, "repetition_penalty": 2.0}, NEUTRAL).do_sample
    assert make_settings({**nothing, "top_k": 3}, NEUTRAL).do_sample
    assert not make_settings({**nothing, "top_k": 3, "do_sample": False}, NEUTRAL).do_sample
