"""`bnfold doctor`: is this machine able to do the job, and if not, the command that mends it."""

from __future__ import annotations

import importlib
import platform
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from bnfold.errors import BnfoldError, EnvironmentNotReady
from bnfold.records import Check, DoctorReport
from bnfold.runtime import (
    available_threads,
    environment,
    installed_builds,
    missing_package,
    require_onnxruntime,
    run_probe,
)
from bnfold.runtime.packages import installed_version

if TYPE_CHECKING:
    from bnfold.records import CheckStatus
    from bnfold.runtime import Provider

__all__ = ["doctor", "unable"]

PYTHON = (3, 11)
NEEDED = ("onnx", "onnx_ir", "onnxscript", "onnxsim", "torch", "safetensors")
OPTIONAL = ("accelerate", "sklearn", "timm", "torchvision")
DISTRIBUTIONS = {"sklearn": "scikit-learn", "onnx_ir": "onnx-ir"}  # where the name to install differs


def doctor(provider: Provider = "cpu") -> DoctorReport:
    """Check what training, folding, proving and measuring need.

    Args:
        provider: the provider that has to run, on a device that works.

    Returns:
        The checks in the order in which to mend them. `able` is true when every needed one is ok.
    """
    checks = [
        _python(),
        *(_imports(package) for package in NEEDED),
        _builds(provider),
        _provider(provider),
        *(_present(package) for package in OPTIONAL),
        _writable(Path.cwd()),
        Check("threads", "ok", needed=False, found=f"{available_threads()} at once"),
    ]
    return DoctorReport(provider=provider, checks=tuple(checks), environment=environment(provider))


def unable(report: DoctorReport) -> EnvironmentNotReady:
    """The error for a machine that cannot do the job."""
    failed = [check for check in report.checks if check.needed and check.status != "ok"]
    remedies = dict.fromkeys(check.remedy for check in failed if check.remedy is not None)
    return EnvironmentNotReady(
        "this machine cannot do the job yet",
        found=", ".join(f"{check.name} {check.status}" for check in failed),
        remedy="; ".join(remedies),
    )


def _python() -> Check:
    if sys.version_info >= PYTHON:
        return Check("python", "ok", needed=True, found=platform.python_version())
    wanted = ".".join(map(str, PYTHON))
    return Check(
        "python", "broken", needed=True, found=platform.python_version(), remedy=f"install Python {wanted} or newer"
    )


def _imports(package: str) -> Check:
    """A needed package is imported: it may be installed and still not load."""
    name = DISTRIBUTIONS.get(package, package)
    try:
        importlib.import_module(package)
    except ModuleNotFoundError as error:
        mend = missing_package((error.name or package).partition(".")[0])
        return Check(name, "missing", needed=True, found=mend.what, remedy=mend.remedy)
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        found = " ".join(f"{type(error).__name__}: {error}".split())
        return Check(name, "broken", needed=True, found=found, remedy=f"run `pip install --force-reinstall {name}`")
    return Check(name, "ok", needed=True, found=installed_version(name) or "installed")


def _present(package: str) -> Check:
    """An optional package is looked up, not imported: that would take seconds."""
    name = DISTRIBUTIONS.get(package, package)
    if find_spec(package) is None:
        return Check(name, "missing", needed=False, found="-", remedy=missing_package(package).remedy)
    return Check(name, "ok", needed=False, found=installed_version(name) or "installed")


def _builds(provider: Provider) -> Check:
    builds = ", ".join(f"{name} {number}" for name, number in installed_builds().items())
    try:
        require_onnxruntime(provider)
    except EnvironmentNotReady as error:
        status: CheckStatus = "broken" if builds else "missing"
        return Check("onnxruntime", status, needed=True, found=builds or "-", remedy=error.remedy)
    return Check("onnxruntime", "ok", needed=True, found=builds or "a build that pip does not know")


def _provider(provider: Provider) -> Check:
    name = f"provider {provider}"
    try:
        return Check(name, "ok", needed=True, found=f"{run_probe(provider)} ran a model")
    except BnfoldError as error:
        found = error.what if error.found is None else f"{error.what}: {error.found}"
        return Check(name, "broken", needed=True, found=found, remedy=error.remedy)
    except ModuleNotFoundError as error:
        return Check(name, "broken", needed=True, found=str(error), remedy=missing_package(error.name or "onnx").remedy)


def _writable(folder: Path) -> Check:
    """Runs and exports are written below the current folder where nothing else is said."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check("write access", "ok", needed=True, found=str(folder))
    except OSError as error:
        found = f"{folder}: {error.strerror}"
        return Check("write access", "broken", needed=True, found=found, remedy="go to a folder that you can write to")
