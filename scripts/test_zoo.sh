#!/usr/bin/env bash
# The tests marked `zoo`: networks of timm and torchvision through `bnfold fold-export`. Options go to pytest.
#
#   ./scripts/test_zoo.sh   makes a second virtual environment in .venv-zoo (torchvision wants a torch of its own)
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"
# shellcheck source=scripts/pytest.sh
source "$ROOT/scripts/pytest.sh"

ensure_venv .venv-zoo dev,zoo scripts/constraints-zoo.txt
cd -- "$ROOT"
run_pytest "$ROOT/.venv-zoo/bin/python" -m zoo "$@"
