#!/usr/bin/env bash
# A bundle for Triton on a real server: that of the package nvidia-pytriton (Linux, x86-64, glibc 2.35 or newer), which has
# no backend for ONNX files; tests/bundles/triton_backend stands for it, on ONNX Runtime's Python package.
#
#   ./scripts/test_triton.sh   makes a virtual environment of its own in .venv-triton; pytest runs in .venv-deployment.
#                              PYTEST=PYTHON runs it in another one. Options go to pytest.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

venv="$ROOT/.venv-triton"
if ! "$venv/bin/python" -c 'import onnxruntime, pytriton, tritonclient' 2>/dev/null; then
  say "environment: $venv (new)"
  make_venv "$(find_python)" "$venv"
  "$venv/bin/python" -m pip install --quiet --constraint "$ROOT/scripts/constraints-triton.txt" nvidia-pytriton onnxruntime
fi
if [[ -z "${PYTEST:-}" ]]; then
  ensure_venv .venv-deployment dev,deployment scripts/constraints-deployment.txt
  PYTEST="$ROOT/.venv-deployment/bin/python"
fi
cd -- "$ROOT"
say "pytest tests/bundles/test_triton_server.py"
TRITON_PYTHON="$venv/bin/python" "$PYTEST" -m pytest -m deployment tests/bundles/test_triton_server.py "$@"
