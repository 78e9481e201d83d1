#!/usr/bin/env bash
# The tests marked `deployment`: folded modules in ExecuTorch, Core ML and torchao; bundles, each started by the lines of
# its own README in an environment that has nothing yet. Options go to pytest.
#
#   ./scripts/test_deployment.sh   makes a virtual environment of its own in .venv-deployment
#
# Bundles install packages with pip, and onnxruntime-web with npm; without npm, or without a browser, the page is skipped.
# With CI=true, a browser is installed where there is none.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"
# shellcheck source=scripts/browser.sh
source "$ROOT/scripts/browser.sh"

ensure_venv .venv-deployment dev,deployment scripts/constraints-deployment.txt
cd -- "$ROOT"
ensure_browser
say "pytest -m deployment"
"$ROOT/.venv-deployment/bin/python" -m pytest -m deployment "$@"
