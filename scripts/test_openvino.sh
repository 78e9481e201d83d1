#!/usr/bin/env bash
# The tests marked `openvino`: ten networks with --provider openvino, whose package takes the place of onnxruntime.
#
#   ./scripts/test_openvino.sh   makes a virtual environment of its own in .venv-openvino. Options go to pytest.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

ensure_venv .venv-openvino openvino,torch,test scripts/constraints-openvino.txt
cd -- "$ROOT"
say "pytest -m openvino tests/openvino"  # the others want packages that this environment has not
"$ROOT/.venv-openvino/bin/python" -m pytest -m openvino tests/openvino "$@"
