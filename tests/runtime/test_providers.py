"""A provider is one record in one file, and nothing else knows it by its name."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx.parser
import onnxruntime as ort
import pytest

import bnfold
from bnfold.errors import InputRefused
from bnfold.folding import CHANNEL_BLOCK
from bnfold.runtime import open_session, provider_names, provider_spec, register_provider, run_probe
from bnfold.runtime.packages import reinstall_line
from bnfold.runtime.probe import MODEL
from bnfold.runtime.providers import ProviderSpec, known_providers, most_telling
from bnfold.verification.checks import proof
from bnfold.workflows.arguments import check_provider

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(bnfold.__file__).parent
NAMED = re.compile(r"""["'](cuda|CUDAExecutionProvider)["']""")
OWN_FILES = {"runtime/providers/cuda.py", "training/devices.py"}  # the second has PyTorch's devices


@pytest.fixture
def known() -> Iterator[None]:
    """Whatever a test registers is forgotten behind it."""
    before = dict(known_providers())
    yield
    known_providers().clear()
    known_providers().update(before)


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
    with pytest.raises(InputRefused, match="no such provider: found 'toy'"):
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


def test_a_file_is_folded_again_in_the_blocks_of_every_provider() -> None:
    blocks = {variant[-1] for variant in proof._VARIANTS}
    assert blocks == {spec.channel_block or CHANNEL_BLOCK for spec in known_providers().values()}
    assert len(blocks) > 1
