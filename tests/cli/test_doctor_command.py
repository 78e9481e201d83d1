"""`bnfold doctor`: what is there, what is missing, and the command that mends it."""

from __future__ import annotations

import json
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

import bnfold
from bnfold.workflows import diagnose

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make an import package unimportable."""

    def hide_package(name: str) -> None:
        monkeypatch.setitem(sys.modules, name, None)

    return hide_package


def status_of(report: Any) -> dict[str, str]:
    return {check.name: check.status for check in report.checks}


def test_an_able_machine(cli: Callable[..., Result]) -> None:
    result = cli("doctor", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "CPUExecutionProvider ran a model" in result.stdout
    assert result.stdout.endswith("This machine can do the job with --provider cpu.\n")


def test_json(cli: Callable[..., Result]) -> None:
    report = json.loads(cli("doctor", "--json", "-").stdout)
    assert report["schema"] == "bnfold.doctor/1"
    assert report["able"] is True
    assert {"python", "onnx", "onnxruntime", "onnxsim", "torch", "provider cpu", "write access"} <= {
        check["name"] for check in report["checks"]
    }


def test_a_missing_package(cli: Callable[..., Result], hide: Callable[[str], None]) -> None:
    hide("onnxsim")
    result = cli("doctor", "-q")
    assert result.exit_code == 4
    assert result.stderr == (
        "error: this machine cannot do the job yet: found onnxsim missing; run `pip install onnxsim`\n"
    )
    assert "onnxsim: run `pip install onnxsim`" in result.stdout


def test_a_package_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    real = diagnose.importlib.import_module

    def load(name: str) -> Any:
        if name == "torch":
            raise OSError("libtorch.so: cannot open shared object file")
        return real(name)

    monkeypatch.setattr(diagnose.importlib, "import_module", load)
    report = bnfold.doctor()
    (torch,) = [check for check in report.checks if check.name == "torch"]
    assert (torch.status, torch.remedy) == ("broken", "run `pip install --force-reinstall torch`")
    assert "libtorch.so" in torch.found
    assert not report.able


def test_optional_packages_do_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "find_spec", lambda _name: None)
    report = bnfold.doctor()
    assert report.able
    assert {status_of(report)[name] for name in ("accelerate", "scikit-learn", "timm", "torchvision")} == {"missing"}


def test_two_builds_of_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    builds = {"onnxruntime": "1.2", "onnxruntime-gpu": "1.3"}
    for module in ("bnfold.runtime.packages", "bnfold.workflows.diagnose"):
        monkeypatch.setattr(f"{module}.installed_builds", lambda: builds)
    report = bnfold.doctor()
    assert not report.able
    (check,) = [check for check in report.checks if check.name == "onnxruntime"]
    assert check.found == "onnxruntime 1.2, onnxruntime-gpu 1.3"
    assert check.remedy == 'run `pip uninstall -y onnxruntime onnxruntime-gpu && pip install "bnfold[cpu]"`'
    assert status_of(report)["provider cpu"] == "broken"
    assert str(diagnose.unable(report)).count("pip uninstall") == 1


def test_cuda_is_asked_for(cli: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    result = cli("doctor", "--provider", "cuda", "-q")
    assert result.exit_code == 4
    assert "found provider cuda broken" in result.stderr
    assert 'pip install "bnfold[gpu]"' in result.stderr


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "PYTHON", (99, 0))
    (check,) = [check for check in bnfold.doctor().checks if check.name == "python"]
    assert (check.status, check.remedy) == ("broken", "install Python 99.0 or newer")


def test_a_folder_without_write_access(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    report = bnfold.doctor()
    (check,) = [check for check in report.checks if check.name == "write access"]
    assert check.status == "broken"
    assert "Permission denied" in check.found
    assert not report.able
