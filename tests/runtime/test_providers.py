"""A provider is one record in one file, and nothing else knows it by its name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import click
import onnx.parser
import onnxruntime as ort
import pytest

import bnfold
from bnfold.benchmarking.placements import placement_of
from bnfold.cli import bench, doctor
from bnfold.errors import InputRefused
from bnfold.folding import CHANNEL_BLOCK
from bnfold.runtime import open_session, provider_names, provider_spec, register_provider, run_probe
from bnfold.runtime.packages import reinstall_line
from bnfold.runtime.probe import MODEL
from bnfold.runtime.providers import ProviderSpec, chain, known_providers, most_telling, session_providers
from bnfold.verification.checks import proof
from bnfold.workflows.arguments import check_provider

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(bnfold.__file__).parent
NAMED = re.compile(r"""["']cuda["']|CUDAExecutionProvider""")
NODE = SimpleNamespace(name="relu", op_type="Relu")
# PyTorch's devices, and the choices of `quantize --target`.
OWN_FILES = {
    "runtime/providers/cuda.py", "runtime/providers/tensorrt.py", "training/devices.py", "cli/quantize.py"
}  # fmt: skip


@pytest.fixture
def known() -> Iterator[None]:
    """Whatever a test registers is forgotten behind it."""
    before = dict(known_providers())
    yield
    known_providers().clear()
    known_providers().update(before)


@pytest.fixture
def cuda_sessions(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Sessions on CUDA run on the CPU; gives the options that each was asked with."""
    asked: list[dict[str, str]] = []

    class Session(ort.InferenceSession):
        def __init__(self, model: bytes, **more: Any) -> None:
            ((_, options),) = more["providers"]
            asked.append(options)
            super().__init__(model, **{**more, "providers": ["CPUExecutionProvider"]})

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider"]

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(ort, "preload_dlls", lambda **_options: None)
    monkeypatch.setattr(ort, "InferenceSession", Session)
    return asked


def toy(name: str = "toy") -> ProviderSpec:
    return replace(provider_spec("cpu"), name=name, label="the toy")


def test_cuda_is_named_in_its_own_file_alone() -> None:
    files = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if NAMED.search(path.read_text("utf-8"))}
    assert files == OWN_FILES


def test_a_name_in_a_sentence_is_found() -> None:
    assert NAMED.search('if provider == "cuda":')
    assert NAMED.search("PROVIDERS['CUDAExecutionProvider']")
    assert not NAMED.search('"cuda_build": str(version)')


def test_the_providers_of_the_package_are_found() -> None:
    files = {path.stem for path in (PACKAGE / "runtime" / "providers").glob("*.py")}
    assert set(provider_names()) == files - {"__init__", "registry", "spec"}
    assert provider_names()[0] == "cpu"


def test_a_registered_provider_is_one_of_them(known: None) -> None:
    with pytest.raises(InputRefused, match=r"the provider must be .*, got 'toy'"):
        check_provider("toy")
    register_provider(toy())
    assert provider_names()[-1] == "toy"
    check_provider(("cpu", "toy"))
    assert run_probe("toy") == "CPUExecutionProvider"
    with pytest.raises(ValueError, match="a provider 'toy' already"):
        register_provider(toy())


def test_options_and_entries_of_the_record_reach_the_session(known: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Session(ort.InferenceSession):
        def __init__(self, model: bytes, **more: Any) -> None:
            asked.append(more["providers"])
            super().__init__(model, **{**more, "providers": ["CPUExecutionProvider"]})

    monkeypatch.setattr(ort, "InferenceSession", Session)
    entry = "session.intra_op.allow_spinning"
    register_provider(replace(toy(), options=lambda n: {"threads": str(n)}, session_entries={entry: "0"}))
    session = open_session(
        onnx.parser.parse_model(MODEL).SerializeToString(), provider="toy", threads=2, provider_options={"more": "1"}
    )
    assert asked == [[("CPUExecutionProvider", {"threads": "2", "more": "1"})]]
    assert session.get_session_options().get_session_config_entry(entry) == "0"


def test_what_the_record_says_decides(known: None) -> None:
    register_provider(replace(toy(), extra="gpu", falls_back=True))
    assert reinstall_line([], "toy") == 'pip install "bnfold[gpu]"'
    assert most_telling([provider_spec("cpu"), provider_spec("toy")]).name == "toy"
    assert most_telling([provider_spec("cpu")]).name == "cpu"


def test_a_file_is_folded_again_in_the_blocks_of_every_provider(known: None) -> None:
    register_provider(replace(toy(), channel_block=4))
    assert [variant[-1] for variant in proof._variants()][:3] == [CHANNEL_BLOCK, 8, 4]


def test_the_providers_behind_take_part_in_its_sessions(known: None) -> None:
    """As TensorRT has CUDA behind it: what it leaves has not fallen back, and is as exact as it."""
    behind = replace(provider_spec("cuda"), name="behind", ort_name="BehindExecutionProvider")
    register_provider(behind)
    register_provider(
        replace(toy(), ort_name="ToyExecutionProvider", behind=("behind",), options=lambda n: {"threads": str(n)})
    )
    assert [spec.name for spec in chain("toy")] == ["toy", "behind"]
    assert session_providers("toy", 3, {"more": "1"}) == [
        ("ToyExecutionProvider", {"threads": "3", "more": "1"}),
        ("BehindExecutionProvider", {}),
    ]
    assert session_providers("toy", 3, exact=True)[1] == ("BehindExecutionProvider", {"use_tf32": "0"})
    placed = [SimpleNamespace(ep_name=name, get_nodes=lambda: [NODE]) for name in ("Toy", "Behind", "CPU")]
    for part in placed:
        part.ep_name += "ExecutionProvider"
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: placed)
    file = Path("none.ort")  # ONNX Runtime's own format: nothing is known of its types
    placement = placement_of("net", file, session, "toy")
    assert [node.provider for node in placement.elsewhere] == ["CPUExecutionProvider"]


def test_a_session_that_must_be_exact_is(cuda_sessions: list[dict[str, str]]) -> None:
    model = onnx.parser.parse_model(MODEL).SerializeToString()
    open_session(model, provider="cuda", fallback=True, exact=True)
    open_session(model, provider="cuda", fallback=True)
    assert cuda_sessions == [{"use_tf32": "0"}, {}]


@pytest.mark.parametrize("command", [bench.command, doctor.command])
def test_the_command_line_offers_every_provider(command: click.Command) -> None:
    (option,) = [parameter for parameter in command.params if parameter.name == "provider"]
    assert tuple(option.type.choices) == provider_names()
