"""What a user should not write: each line that is marked is one error of mypy and of pyright."""

import bnfold

report = bnfold.inspect("net.onnx")
absorbed: str = report.ledger.absorbed  # wrong: a number
bnfold.fold_export("net.onnx", "out", opset="20")  # wrong: a text
print(report.ledger.entires)  # wrong: misspelt
bnfold.bench("net.onnx", budget_s=None)  # wrong: None
