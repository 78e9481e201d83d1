#!/usr/bin/env bash
# The tests marked `deployment`: folded modules in ExecuTorch, Core ML and torchao. Options go to pytest.
#
#   ./scripts/test_deployment.sh   makes a virtual environment of its own in .venv-deployment
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

ensure_venv .venv-deployment dev,deployment scripts/constraints-deployment.txt
cd -- "$ROOT"
say "pytest -m deployment"
"$ROOT/.venv-deployment/bin/python" -m pytest -m deployment "$@"
