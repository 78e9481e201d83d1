"""Weight files: `.safetensors`, or PyTorch's `.pt` and `.pth` read without running the code they may carry."""

from __future__ import annotations

import logging
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bnfold.errors import InputRefused
from bnfold.sources.extras import require, require_torch
from bnfold.sources.state_dicts import load_weights
from bnfold.sources.usercode import described

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

__all__ = ["WEIGHT_SUFFIXES", "is_torchscript", "put_weights", "read_weights"]

log = logging.getLogger("bnfold.sources")

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
WEIGHT_SUFFIXES = (".safetensors", *PICKLE_SUFFIXES)
WRAPPED = "module."
"""What DataParallel and DistributedDataParallel put before every name of the state dict."""
WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict.

    Args:
        path: a `.safetensors` file, or one of `torch.save`, read with `weights_only=True`; there the state dict may
            lie under the key `state_dict`, `model_state_dict` or `model`.

    Raises:
        InputRefused: no such file, damaged, of another kind, or it wants to run code.
        EnvironmentNotReady: PyTorch or safetensors is not installed.
    """
    if not path.is_file():
        raise InputRefused("no such weight file", where=str(path), remedy="give the path of an existing file")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise InputRefused(
            "unknown kind of weight file",
            where=str(path),
            found=f"suffix {path.suffix!r}",
            expected=", ".join(WEIGHT_SUFFIXES),
            remedy="convert it with safetensors.torch.save_file(state_dict, 'weights.safetensors')",
        )
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _unwrapped(_read_pickle(path), path)
    return _tensors(state, path)


def put_weights(module: nn.Module, path: Path) -> None:
    """Read a weight file into a network; every key and shape must fit.

    `num_batches_tracked` may be missing, as in files older than it: nothing reads it in eval mode.

    Raises:
        InputRefused: as `read_weights`, or the first three keys or shapes that do not fit.
    """
    state = read_weights(path)
    own = module.state_dict()
    if all(name.startswith(WRAPPED) for name in state) and not any(name.startswith(WRAPPED) for name in own):
        state = {name.removeprefix(WRAPPED): value for name, value in state.items()}
        if not own.keys().isdisjoint(state):
            log.info("%s: the prefix `%s` of DataParallel is left out of its names", path, WRAPPED)
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    load_weights(module, {**counters, **state}, str(path))


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    safetensors = require("safetensors", extra="torch", purpose="a .safetensors file")
    read = require("safetensors.torch", extra="torch", purpose="a .safetensors file").load_file
    try:
        state: Mapping[str, Any] = read(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return state


def is_torchscript(path: Path) -> bool:
    """Whether a file is an archive of `torch.jit.save`: a zip file with code in it and its constants beside."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return any("/code/" in name for name in names) and any(name.endswith("/constants.pkl") for name in names)


def _read_pickle(path: Path) -> Any:
    torch = require_torch()
    if is_torchscript(path):
        raise InputRefused(
            "the weight file is a TorchScript archive, a program of torch.jit.save, and no state dict",
            where=str(path),
            expected="the tensors of model.state_dict()",
            remedy="write its weights with "
            f"safetensors.torch.save_file(torch.jit.load('{path.name}').state_dict(), 'weights.safetensors')",
        )
    try:
        with warnings.catch_warnings():
            # A file of another pickle protocol than torch.save writes: whether it can be read is said below.
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" not in str(error).lower() and "unsupported" not in str(error).lower():
            raise _damaged(path, error) from error
        raise InputRefused(
            "the weight file is a pickle that wants to run code, which bnfold never does",
            where=str(path),
            expected="tensors only",
            remedy="on a machine where you trust it, load it and write the weights with "
            "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def _unwrapped(loaded: Any, path: Path) -> Mapping[str, Any]:
    """The state dict of what `torch.save` stored."""
    if isinstance(loaded, Mapping):
        for key in WRAPPERS:
            if isinstance(loaded.get(key), Mapping):
                inner: Mapping[str, Any] = loaded[key]
                return inner
        return loaded
    raise InputRefused(
        "the weight file holds no state dict",
        where=str(path),
        found=type(loaded).__name__,
        expected="a dict of tensors by parameter name",
        remedy="store it with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
    )


def _tensors(state: Mapping[str, Any], path: Path) -> dict[str, torch.Tensor]:
    torch = require_torch()
    strangers = [str(name) for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if strangers or not state:
        raise InputRefused(
            "the weight file holds no state dict",
            where=str(path),
            found=f"entries that are no tensors: {', '.join(strangers[:3])}" if strangers else "no entries",
            expected="a dict of tensors by parameter name",
            remedy="store it with safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')",
        )
    return {str(name): value for name, value in state.items()}


def _damaged(path: Path, error: Exception) -> InputRefused:
    return InputRefused(
        "the weight file is damaged or of another kind than its name says",
        where=str(path),
        found=f"{path.stat().st_size} bytes, {described(error)[:200]}",
        expected=f"a {path.suffix} file",
        remedy="copy it again from where it came",
    )
