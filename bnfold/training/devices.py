"""Where PyTorch trains: its devices, which are no execution providers of ONNX Runtime."""

from __future__ import annotations

import os
from typing import Literal, TypeAlias, get_args

from bnfold.errors import EnvironmentNotReady

__all__ = ["DEVICES", "GPU", "Device", "make_ready"]

Device: TypeAlias = Literal["cpu", "cuda"]
DEVICES: tuple[Device, ...] = get_args(Device)
GPU: Device = "cuda"


def make_ready(device: str, precision: str) -> None:
    """Refuse a device that is not there, or that has no such precision; have a GPU compute the same each time.

    Args:
        device: one of `DEVICES`.
        precision: see `Recipe.precision`.

    Raises:
        EnvironmentNotReady: PyTorch has no such device, or the device no such precision.
    """
    import torch

    if device == GPU and not torch.cuda.is_available():
        raise EnvironmentNotReady(
            "there is no CUDA device that PyTorch can use",
            found=f"PyTorch {torch.__version__}",
            remedy="pass --device cpu, or install a build of PyTorch for CUDA",
        )
    if precision == "fp16" and device != GPU:
        raise EnvironmentNotReady(
            "precision fp16 needs a GPU",
            found=f"device {device}",
            remedy=f"pass --set precision=bf16, or --device {GPU}",
        )
    if device == GPU:
        # https://docs.pytorch.org/docs/stable/generated/torch.use_deterministic_algorithms.html
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
