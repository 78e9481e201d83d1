#!/usr/bin/env bash
# The tests with the lowest versions that pyproject.toml allows, in an environment of their own. Options go to pytest.
#
#   PYTHON=python3.11 ./scripts/test_lowest.sh   makes .venv-lowest; newer Pythons have no wheels of versions that old
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"
# shellcheck source=scripts/pytest.sh
source "$ROOT/scripts/pytest.sh"

ensure_venv .venv-lowest dev scripts/constraints-lowest.txt
cd -- "$ROOT"
run_pytest "$ROOT/.venv-lowest/bin/python" -m "not zoo and not field and not deployment and not openvino" "$@"
