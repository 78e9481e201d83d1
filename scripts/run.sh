#!/usr/bin/env bash
# The main job, end to end: train two networks on real data, fold-export and bench them, print one table.
#
#   ./scripts/run.sh        needs Python 3.11 or newer and pip; makes its own virtual environment in .venv
#
# PYTHON=/path/to/python3.12 chooses the interpreter. Exit code 0 only if both networks reached their accuracy, no
# BatchNorm was left, and the files were proven equal to the networks.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

ensure_venv .venv cpu,train scripts/constraints.txt
python="$ROOT/.venv/bin/python"
bnfold() { "$python" -m bnfold "$@"; }
cd -- "$ROOT"

networks=(bnnet resnet)
for network in "${networks[@]}"; do
  run="runs/$network"
  say "training $network on the digits of scikit-learn"
  bnfold train "$network" -o "$run" --force >/dev/null
  say "folding and exporting $run"
  bnfold fold-export "$run" -o "$run/export" --keep-plain --budget 0 --force >/dev/null
  say "measuring $run/export/model.onnx against the plain export"
  bnfold bench "$run/export/model.onnx" "$run/export/plain.onnx" --budget 5 --json "$run/export/bench.json" >/dev/null
done
"$python" scripts/run_table.py "${networks[@]/#/runs/}"
