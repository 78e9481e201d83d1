"""Networks of the two model libraries: `timm:NAME` and `torchvision:NAME`."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from bnfold.errors import EnvironmentNotReady, InputRefused
from bnfold.sources.extras import require
from bnfold.sources.model_file import nearest
from bnfold.sources.usercode import described, user_code

if TYPE_CHECKING:
    from torch import nn

__all__ = ["LIBRARIES", "LibraryModel", "build_timm", "build_torchvision"]

log = logging.getLogger("bnfold.sources")

LIBRARIES = ("timm", "torchvision")
IMAGE_SHAPE = (1, 3, 224, 224)
VIDEO_SHAPE = (1, 3, 16, 112, 112)
N_FRAMES = 16

LibraryModel = tuple["nn.Module", tuple[int, ...]]


def build_timm(name: str, *, pretrained: bool) -> LibraryModel:
    """A network of timm, and the input shape of its `pretrained_cfg`.

    Args:
        name: as in `timm.list_models()`, with an optional tag (`resnet18.a1_in1k`).
        pretrained: load published weights, which may download them.

    Raises:
        InputRefused: no such name or tag, or the network cannot be built.
        EnvironmentNotReady: timm is not installed, or the weights cannot be downloaded.
    """
    timm = require("timm", extra="zoo", purpose="a timm network")
    base = name.partition(".")[0]
    if not timm.is_model(name):
        raise InputRefused(
            f"timm {timm.__version__} has no network {name!r}",
            remedy=nearest(base, timm.list_models(), listing="timm.list_models() names them all"),
        )
    tags = timm.list_pretrained(f"{base}.*") or []
    if "." in name and name not in tags:
        raise InputRefused(
            f"timm {timm.__version__} has no weights {name!r}",
            remedy=nearest(name, tags, listing=f"leave the tag out: timm:{base}"),
        )
    module = _build(lambda: timm.create_model(name, pretrained=pretrained), f"timm:{name}", pretrained=pretrained)
    size = (getattr(module, "pretrained_cfg", None) or {}).get("input_size")
    return module, (1, *size) if size else IMAGE_SHAPE


def build_torchvision(name: str, *, pretrained: bool) -> LibraryModel:
    """A network of torchvision (classification, video, segmentation), and the input shape of its weights' transforms.

    Args:
        name: as in `torchvision.models.list_models()`.
        pretrained: load the default published weights, which may download them.

    Raises:
        InputRefused: no such name, or a network whose inputs are lists (detection).
        EnvironmentNotReady: torchvision is not installed, or the weights cannot be downloaded.
    """
    version = require("torchvision", extra="zoo", purpose="a torchvision network").__version__
    models: Any = require("torchvision.models", extra="zoo", purpose="a torchvision network")
    known = models.list_models()
    if name not in known:
        raise InputRefused(
            f"torchvision {version} has no network {name!r}",
            remedy=nearest(name, known, listing="torchvision.models.list_models() names them all"),
        )
    if name in (*models.list_models(module=models.detection), *models.list_models(module=models.optical_flow)):
        raise InputRefused(
            f"torchvision:{name} takes and returns lists or pairs of images, which one ONNX graph of tensors cannot",
            remedy="wrap the part you deploy in a factory: `file.py:factory --input-shape 1x3x224x224`",
        )
    weights = models.get_model_weights(name).DEFAULT
    builder = inspect.unwrap(models.get_model_builder(name))
    arguments: dict[str, Any] = {"weights": weights if pretrained else None, "progress": False}
    if "weights_backbone" in inspect.signature(builder).parameters:
        arguments["weights_backbone"] = None  # the default would download
    module = _build(lambda: models.get_model(name, **arguments), f"torchvision:{name}", pretrained=pretrained)
    return module, _torchvision_shape(weights, video=name in models.list_models(module=models.video))


def _torchvision_shape(weights: Any, *, video: bool) -> tuple[int, ...]:
    """The shape that the published transforms produce."""
    arguments = getattr(weights.transforms, "keywords", {})
    size = arguments.get("crop_size", arguments.get("resize_size"))
    if size is None:
        return VIDEO_SHAPE if video else IMAGE_SHAPE
    height, width = (size, size) if isinstance(size, int) else (size[0], size[-1])
    return (1, 3, N_FRAMES, height, width) if video else (1, 3, height, width)


def _build(build: Any, where: str, *, pretrained: bool) -> nn.Module:
    try:
        with user_code():
            module: nn.Module = build()
    except Exception as error:
        if pretrained:
            raise EnvironmentNotReady(
                "the published weights cannot be downloaded",
                where=where,
                found=described(error)[:300],
                remedy="check the network connection, or give a local file with --weights FILE",
            ) from error
        raise InputRefused(
            "the library cannot build this network",
            where=where,
            found=described(error)[:300],
            remedy="choose another one, or wrap it in a factory: `file.py:factory`",
        ) from error
    return module
