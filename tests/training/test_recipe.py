"""Recipes are checked key by key; nothing misspelt or out of range is trained with."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bnfold.errors import InputRefused
from bnfold.sources.model_file import load_model_file, zoo_names
from bnfold.training.recipe import Recipe, parse_assignment, read_recipe

WRONG: list[tuple[str, list[Any]]] = [
    ("task", [3, "", None]),
    ("data", [[], ""]),
    ("image_size", [8, [8], [8, 8, 8], [8, 0], [8.0, 8.0], "8x8"]),
    ("standardise", [0, 1, "yes", None]),
    ("epochs", [0, -1, 1.0, True, "3", None]),
    ("patience", [0, 1.5, "no"]),
    ("keep", ["first", None]),
    ("batch_size", [0, 1, 64.0, False]),
    ("accumulate", [0, 2.0, None]),
    ("precision", ["float16", "int8", None]),
    ("optimizer", ["adam", None, 1]),
    ("lr", [0, -0.1, float("nan"), float("inf"), "0.1", True]),
    ("warmup", [-0.1, 1, 1.5, "no"]),
    ("momentum", [1, -0.5]),
    ("beta1", [1, -0.5]),
    ("weight_decay", [-1e-3, float("inf"), None]),
    ("clip", [-1, float("nan"), None]),
    ("ema", [1, -0.1, None]),
    ("precise_bn", [1, "yes", None]),
    ("freeze_bn_after", [-1, 1.5, True]),
    ("l1_gamma", [-0.1, float("nan"), "x"]),
    ("label_smoothing", [1, -0.1]),
    ("split_seed", [-1, 0.5, True]),
    ("threads", [0, 1.5, "all"]),
]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG for value in values])
def test_wrong_values_are_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(InputRefused) as refusal:
        read_recipe({key: value}, where="here")
    message = str(refusal.value)
    assert key in message
    assert repr(value) in message
    assert "in here" in message


def test_every_key_has_wrong_values_in_this_test() -> None:
    assert [key for key, _ in WRONG] == [field.name for field in dataclasses.fields(Recipe)]


def test_unknown_key_suggests_the_nearest() -> None:
    with pytest.raises(InputRefused, match=r"unknown key 'weigth_decay' in here; did you mean weight_decay"):
        read_recipe({"weigth_decay": 0.1}, where="here")


def test_unknown_key_far_from_all_lists_all() -> None:
    with pytest.raises(InputRefused, match="known keys: task, data, image_size"):
        read_recipe({"zzz": 0.1}, where="here")


def test_values_are_stored_in_one_form() -> None:
    recipe = read_recipe({"image_size": [16, 32], "lr": 1}, where="here")
    assert recipe.image_size == (16, 32)
    assert isinstance(recipe.lr, float)
    assert recipe.epochs == Recipe().epochs
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.lr = 2.0  # type: ignore[misc]  # this is what is tested


@pytest.mark.parametrize("name", zoo_names())
def test_recipes_of_the_zoo_are_valid(name: str) -> None:
    file = load_model_file(name)
    assert file.recipe
    read_recipe(file.recipe, where=name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=0.1", ("lr", 0.1)),
        ("image_size=[16, 32]", ("image_size", [16, 32])),
        ("image-size=null", ("image_size", None)),
        ("optimizer=sgd", ("optimizer", "sgd")),
        ("data=a=b", ("data", "a=b")),
    ],
)
def test_assignments(text: str, expected: tuple[str, Any]) -> None:
    assert parse_assignment(text) == expected


@pytest.mark.parametrize("text", ["lr", "=3", ""])
def test_assignments_without_key_or_value(text: str) -> None:
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_assignment(text)
