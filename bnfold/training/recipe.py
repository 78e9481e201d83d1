"""How a network is trained: the `RECIPE` of a model file, checked and completed."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.model_file import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Recipe", "parse_assignment", "read_recipe"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One training run. What a model file leaves out has the value given here.

    Attributes:
        task: what is learnt, a name of `bnfold.training.tasks.TASKS`.
        data: the data set, a name of `bnfold.training.data.DATA_SETS`, or one of a user's own: `folder:PATH`,
            `npz:PATH`, `torchvision:NAME`, `hf:NAME`.
        image_size: height and width the digits are resized to; None keeps them. A user's own images are resized to what
            the network takes.
        standardise: whether pixels in 0..1 are shifted and scaled to mean 0 and deviation 1 over the training split. A
            network that starts with a BatchNorm does this itself, per feature.
        epochs: passes over the training split.
        patience: stop when the validation split has not been better for so many epochs; None never does.
        keep: the weights the run ends with, "last" or "best": those of the last epoch or of the best one.
        batch_size: images a step, over all processes; at least 2, since a BatchNorm has no variance over one.
        accumulate: the parts a step's images are taken in, one after the other; a BatchNorm sees one part at a time.
        precision: "float32", or "bf16" or "fp16" for mixed precision: parameters stay float32.
        optimizer: "adamw" or "sgd" (with Nesterov momentum).
        lr: the largest learning rate.
        warmup: the part of all steps over which the rate rises to `lr`, before it falls as a cosine.
        momentum: of sgd.
        beta1: the decay of adamw's mean gradient; adversarial networks want 0.5 (Radford 2015, section 4).
        weight_decay: on weights of two or more dimensions, not on norms and biases.
        clip: the largest 2-norm of the gradients, to which larger ones are scaled down; 0 leaves them.
        ema: the decay of a moving average of the weights, a step; the average is what is measured and kept. 0 is none.
        precise_bn: whether the run ends by measuring the BatchNorms' statistics again, pooled over training images.
        freeze_bn_after: epochs after which BatchNorms normalise by their running statistics, which then stay; None
            never does. 0 suits weights that come with statistics.
        l1_gamma: the penalty on |gamma| of BatchNorms by which channels become exactly 0; see
            `bnfold.training.sparsity`.
        label_smoothing: of the cross-entropy.
        split_seed: chooses the train, validation and test split, apart from the seed of a run: runs with different
            seeds are compared on the same test images.
        threads: threads of PyTorch; None takes all that the process may use. A fixed number makes a run repeatable
            on machines of other sizes, and one is fastest for small networks.
    """

    task: str = "classification"
    data: str = "digits"
    image_size: tuple[int, int] | None = None
    standardise: bool = True
    epochs: int = 20
    patience: int | None = None
    keep: str = "last"
    batch_size: int = 64
    accumulate: int = 1
    precision: str = "float32"
    optimizer: str = "adamw"
    lr: float = 1e-3
    warmup: float = 0.1
    momentum: float = 0.9
    beta1: float = 0.9
    weight_decay: float = 0.01
    clip: float = 0.0
    ema: float = 0.0
    precise_bn: bool = False
    freeze_bn_after: int | None = None
    l1_gamma: float = 0.0
    label_smoothing: float = 0.0
    split_seed: int = 0
    threads: int | None = None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_int(value) or isinstance(value, float)) and math.isfinite(value)


def _at_least(low: int) -> Callable[[Any], bool]:
    return lambda value: _is_int(value) and value >= low


def _is_size(value: Any) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_at_least(1), value)))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_fraction(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


# key: (test, what is expected)
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "task": (_is_name, "a name"),
    "data": (_is_name, "a name"),
    "image_size": (_is_size, "[height, width], or null to keep the size"),
    "standardise": (lambda value: isinstance(value, bool), "true or false"),
    "epochs": (_at_least(1), "an integer of at least 1"),
    "patience": (lambda value: value is None or _at_least(1)(value), "an integer of at least 1, or null"),
    "keep": (lambda value: value in ("last", "best"), '"last" or "best"'),
    "batch_size": (_at_least(2), "an integer of at least 2 (BatchNorm has no variance over one image)"),
    "accumulate": (_at_least(1), "an integer of at least 1"),
    "precision": (lambda value: value in ("float32", "bf16", "fp16"), '"float32", "bf16" or "fp16"'),
    "optimizer": (lambda value: value in ("adamw", "sgd"), '"adamw" or "sgd"'),
    "lr": (lambda value: _is_number(value) and value > 0, "a finite number above 0"),
    "warmup": (_is_fraction, "a number from 0 to below 1"),
    "momentum": (_is_fraction, "a number from 0 to below 1"),
    "beta1": (_is_fraction, "a number from 0 to below 1"),
    "weight_decay": (lambda value: _is_number(value) and value >= 0, "a finite number of at least 0"),
    "clip": (lambda value: _is_number(value) and value >= 0, "a finite number of at least 0"),
    "ema": (_is_fraction, "a number from 0 to below 1"),
    "precise_bn": (lambda value: isinstance(value, bool), "true or false"),
    "freeze_bn_after": (lambda value: value is None or _at_least(0)(value), "an integer of at least 0, or null"),
    "l1_gamma": (lambda value: _is_number(value) and value >= 0, "a finite number of at least 0"),
    "label_smoothing": (_is_fraction, "a number from 0 to below 1"),
    "split_seed": (_at_least(0), "an integer of at least 0"),
    "threads": (lambda value: value is None or _at_least(1)(value), "an integer of at least 1, or null"),
}
_FLOATS = {field.name for field in dataclasses.fields(Recipe) if field.type == "float"}


def read_recipe(values: Mapping[str, Any], *, where: str) -> Recipe:
    """Check a recipe and complete it with the defaults.

    Args:
        values: as written in the model file or on the command line.
        where: their origin, for the message.

    Raises:
        InputRefused: an unknown key, or a value of the wrong type or outside its range.
    """
    for key, value in values.items():
        if key not in _CHECKS:
            raise InputRefused(
                f"the recipe has an unknown key {key!r}",
                where=where,
                remedy=nearest(str(key), list(_CHECKS), listing=f"known keys: {', '.join(_CHECKS)}"),
            )
        valid, expected = _CHECKS[key]
        if not valid(value):
            raise InputRefused(
                f"the recipe has no valid {key}",
                where=where,
                found=repr(value),
                expected=expected,
                remedy=f"correct {key}",
            )
    return Recipe(**{key: _stored(key, value) for key, value in values.items()})


def _stored(key: str, value: Any) -> Any:
    if key in _FLOATS:
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def parse_assignment(text: str) -> tuple[str, Any]:
    """Split `KEY=VALUE`; VALUE is JSON where it can be read as such (`0.1`, `[16, 32]`, `null`), else a string.

    Raises:
        ValueError: there is no `=`, or nothing in front of it.
    """
    key, equals, value = text.partition("=")
    key = key.strip().replace("-", "_")
    if not equals or not key:
        raise ValueError(f"{text!r} is not KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value.strip()
