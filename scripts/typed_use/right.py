"""What a user writes: mypy --strict and pyright find nothing (scripts/test_project.sh)."""

import bnfold
from bnfold.errors import BnfoldError, InputRefused
from bnfold.records import Ledger


def names_that_stay(path: str) -> list[str]:
    """The BatchNorms of a file that bnfold keeps."""
    ledger: Ledger = bnfold.inspect(path).ledger
    return [entry.name for entry in ledger.entries if entry.outcome == "kept"]


def ratio(path: str) -> float | None:
    """The time of the folded file over that of the plain export."""
    result = bnfold.fold_export(path, "out", force=True)
    passed: bool = result.passed
    return result.timing.ratio if passed and result.timing is not None else None


try:
    print(names_that_stay("net.onnx"), ratio("net.onnx"))
    print(bnfold.verify("net.onnx", "out/model.onnx").passed, bnfold.__version__.split("."))
except InputRefused as error:
    print(error.what, error.remedy or "", error.exit_code + 1)
except BnfoldError as error:
    raise SystemExit(error.exit_code) from error
