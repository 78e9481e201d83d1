"""What is shipped: the wheel, installed into a bare environment, does the whole job without the repository."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from email import message_from_bytes
from importlib.metadata import PackageNotFoundError, distribution
from importlib.metadata import distributions as distributions_here
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnfold.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
NETWORKS = sorted(path.name for path in (REPOSITORY / "models").glob("*.py"))

pytestmark = pytest.mark.slow


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that knows nothing of this environment."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, check=False, text=True, capture_output=True
    )


def succeed(*command: object, cwd: Path) -> str:
    """Run a program that must succeed; what it prints."""
    result = run(*command, cwd=cwd)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    succeed(sys.executable, "-m", "build", "--outdir", folder, REPOSITORY, cwd=folder)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def test_wheel_holds_the_zoo_and_no_top_level_models(distributions: dict[str, Path]) -> None:
    with zipfile.ZipFile(distributions["wheel"]) as archive:
        names = archive.namelist()
    assert (
        sorted(name.removeprefix("bnfold/_models/") for name in names if name.startswith("bnfold/_models/")) == NETWORKS
    )
    assert {name.partition("/")[0] for name in names} == {"bnfold", f"bnfold-{__version__}.dist-info"}
    assert "bnfold/py.typed" in names
    assert f"bnfold-{__version__}.dist-info/licenses/LICENSE" in names


def test_sdist_holds_what_the_scripts_need(distributions: dict[str, Path]) -> None:
    with tarfile.open(distributions["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "scripts/run.sh",
        "scripts/constraints.txt",
        "models/bnnet.py",
    }
    assert not [name for name in names if name.startswith((".venv", "runs"))]


@dataclass(frozen=True)
class Installation:
    """The wheel in an environment of its own, and a folder to work in."""

    python: Path
    bnfold: Path
    packages: Path
    work: Path


EXTRAS = ("cpu", "torch", "train")  # `train` needs `torch`


def required(lines: Iterable[str], extras: Collection[str] = ()) -> set[str]:
    """The distributions that requirements name, without those of other extras."""
    found = set()
    for line in lines:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)", marker)
        if extra is None or extra[1] in extras:
            found |= set(re.findall(r"^[\w.-]+", requirement))
    return found


def versions_here(file: Path) -> Path:
    """Constraints to what is installed here: pip would write another version through its link."""
    versions = {found.name: found.version for found in distributions_here() if found.name != "bnfold"}
    file.write_text("".join(f"{name}=={version}\n" for name, version in versions.items()), encoding="utf-8")
    return file


def link_dependencies(wheel: Path, packages: Path) -> None:
    """Link what the wheel requires from this environment: what lies here already need not be unpacked again.

    ONNX Runtime is copied: bnfold asks where it really lies.
    """
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = message_from_bytes(archive.read(metadata)).get_all("Requires-Dist", [])
    wanted, seen = required(lines, EXTRAS), {"bnfold"}
    while new := wanted - seen:
        seen |= new
        for name in new:
            with contextlib.suppress(PackageNotFoundError):  # one that the tests do without: pip installs it
                found = distribution(name)
                wanted |= required(found.requires or ())
                for entry in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
                    here, there = Path(str(found.locate_file(entry))), packages / entry
                    if name == "onnxruntime" and here.is_dir():
                        shutil.copytree(here, there)
                    elif not there.exists():
                        there.symlink_to(here)


@pytest.fixture(scope="module")
def installation(distributions: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """Install the wheel, and train a network there."""
    venv, work = tmp_path_factory.mktemp("venv"), tmp_path_factory.mktemp("work")
    succeed(sys.executable, "-m", "venv", venv, cwd=work)
    python, bnfold = venv / "bin" / "python", venv / "bin" / "bnfold"
    wheel, constraints = distributions["wheel"], versions_here(work / "constraints.txt")
    packages = Path(succeed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=work).strip())
    link_dependencies(wheel, packages)
    succeed(python, "-m", "pip", "install", "-q", "-c", constraints, f"{wheel}[cpu,train]", cwd=work)
    succeed(python, "-m", "pip", "check", cwd=work)
    succeed(bnfold, "train", "bnnet", "--epochs", "2", "--quiet", cwd=work)
    return Installation(python, bnfold, packages, work)


def test_nothing_is_imported_from_the_repository(installation: Installation) -> None:
    home = succeed(installation.python, "-c", "import bnfold; print(bnfold.__path__[0])", cwd=installation.work)
    assert Path(home.strip()) == installation.packages / "bnfold"
    assert "No module named 'models'" in run(installation.python, "-c", "import models", cwd=installation.work).stderr


def test_fold_export_from_an_unrelated_folder(installation: Installation) -> None:
    work = installation.work
    succeed(installation.bnfold, "fold-export", "runs/bnnet", "-o", "exported", "--quiet", cwd=work)
    report = json.loads((work / "exported" / "report.json").read_text())
    assert report["passed"]
    assert report["graph"]["batchnorm_after"] == 0
    assert (work / "exported" / "model.onnx").is_file()


@contextlib.contextmanager
def without(installation: Installation, *names: str) -> Iterator[None]:
    """Take packages out of the environment for a while, as `pip uninstall` would."""
    aside = installation.work / "aside"
    aside.mkdir()
    moved = [path for name in names for path in installation.packages.glob(f"{name}*")]
    assert len(moved) >= len(names)
    try:
        for path in moved:
            path.rename(aside / path.name)
        yield
    finally:
        for path in aside.iterdir():
            path.rename(installation.packages / path.name)
        aside.rmdir()


def assert_refused(installation: Installation, line: str, *arguments: str) -> None:
    result = run(installation.bnfold, *arguments, cwd=installation.work)
    assert result.returncode == 4, f"{arguments}\n{result.stdout}\n{result.stderr}"
    (error,) = result.stderr.splitlines()
    assert error.startswith("error: ONNX Runtime")
    assert error.endswith(f"run `{line}`")
    assert not (installation.work / "refused").exists()


COMMANDS_WITH_RUNTIME = [
    ("fold-export", "runs/bnnet", "-o", "refused"),
    ("bench", "network.onnx"),
    ("verify", "runs/bnnet", "network.onnx"),
]


@pytest.mark.parametrize("arguments", COMMANDS_WITH_RUNTIME, ids=lambda arguments: str(arguments[0]))
def test_without_onnxruntime(installation: Installation, network: Path, arguments: tuple[str, ...]) -> None:
    (installation.work / "network.onnx").write_bytes(network.read_bytes())
    with without(installation, "onnxruntime"):
        assert_refused(installation, 'pip install "bnfold[cpu]"', *arguments)


@pytest.mark.parametrize("arguments", COMMANDS_WITH_RUNTIME, ids=lambda arguments: str(arguments[0]))
def test_with_two_builds_of_onnxruntime(installation: Installation, network: Path, arguments: tuple[str, ...]) -> None:
    (installation.work / "network.onnx").write_bytes(network.read_bytes())
    second = installation.packages / "onnxruntime_gpu-1.32.0.dist-info"
    second.mkdir()
    try:
        (second / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.32.0\n")
        line = 'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "bnfold[cpu]"'
        assert_refused(installation, line, *arguments)
    finally:
        shutil.rmtree(second)


def test_inspect_of_an_onnx_file_needs_neither_torch_nor_onnxruntime(installation: Installation, network: Path) -> None:
    with without(installation, "onnxruntime", "torch", "onnxsim"):
        printed = succeed(installation.bnfold, "inspect", network, cwd=installation.work)
    assert "1 found, 1 absorbed" in printed
