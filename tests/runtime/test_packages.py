"""One build of ONNX Runtime, or the pip line that leaves one."""

from __future__ import annotations

import importlib
import importlib.machinery
from importlib.metadata import distributions, version
from typing import TYPE_CHECKING, Any

import pytest

from bnfold.errors import EnvironmentNotReady
from bnfold.runtime import packages

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def pretend_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make exactly these distributions look installed, `folder/name` each; the folders are the path, in order."""

    def pretend(*places: str) -> None:
        folders = list(dict.fromkeys(place.partition("/")[0] for place in places))
        for folder, _, name in (place.partition("/") for place in places):
            package = tmp_path / folder / "onnxruntime" / "__init__.py"
            package.parent.mkdir(parents=True, exist_ok=True)
            package.touch()
            metadata = tmp_path / folder / f"{name.replace('-', '_')}-1.2.3.dist-info" / "METADATA"
            metadata.parent.mkdir()
            metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2.3\n", encoding="utf-8")
        path = [str(tmp_path / folder) for folder in folders]
        monkeypatch.setattr(packages, "distributions", lambda name: distributions(name=name, path=path))
        monkeypatch.setattr(packages, "find_spec", lambda name: importlib.machinery.PathFinder.find_spec(name, path))

    return pretend


def test_the_installed_build_is_found_and_imported() -> None:
    (build,) = packages.installed_builds()
    assert packages.installed_builds()[build] == version(build)
    assert packages.require_onnxruntime().InferenceSession


def test_no_build(pretend_installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed()
    monkeypatch.setattr(packages, "find_spec", lambda _name: None)
    with pytest.raises(EnvironmentNotReady) as caught:
        packages.require_onnxruntime()
    assert caught.value.exit_code == 4
    assert str(caught.value) == 'ONNX Runtime is not installed; run `pip install "bnfold[cpu]"`'


def test_files_left_behind_by_an_uninstalled_build_are_no_build(
    pretend_installed: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_installed()
    monkeypatch.setattr(packages, "find_spec", lambda name: importlib.machinery.ModuleSpec(name, None))
    with pytest.raises(EnvironmentNotReady, match="not installed"):
        packages.require_onnxruntime()


@pytest.mark.parametrize(("provider", "extra"), [("cpu", "cpu"), ("cuda", "gpu")])
def test_two_builds(pretend_installed: Callable[..., None], provider: Any, extra: str) -> None:
    pretend_installed("site/onnxruntime", "site/onnxruntime-gpu")
    with pytest.raises(EnvironmentNotReady) as caught:
        packages.require_onnxruntime(provider)
    assert caught.value.exit_code == 4
    assert "found onnxruntime and onnxruntime-gpu" in str(caught.value)
    line = f'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "bnfold[{extra}]"'
    assert str(caught.value).endswith(f"; run `{line}`")


def test_a_build_behind_another_on_the_path_is_not_used(pretend_installed: Callable[..., None]) -> None:
    """As `pip install --target` leaves it, with its folder in front."""
    pretend_installed("target/onnxruntime-gpu", "venv/onnxruntime")
    assert packages.installed_builds() == {"onnxruntime-gpu": "1.2.3"}
    assert packages.require_onnxruntime("cuda").InferenceSession


@pytest.mark.parametrize("error", [ImportError("libcudart.so.12 not found"), OSError("libcudart.so.12 not found")])
def test_a_build_that_does_not_import(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(EnvironmentNotReady, match=r"does not import: found libcudart\.so\.12 not found"):
        packages.require_onnxruntime()


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("timm", 'pip install "bnfold[zoo]"'),
        ("sklearn", 'pip install "bnfold[train]"'),
        ("onnxsim", "pip install onnxsim"),
    ],
)
def test_missing_package_names_the_line(package: str, line: str) -> None:
    assert str(packages.missing_package(package)) == f"the package {package} is not installed; run `{line}`"
