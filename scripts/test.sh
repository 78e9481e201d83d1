#!/usr/bin/env bash
# Every check: format, lint, types, layers, tests. Options go to pytest: ./scripts/test.sh -k staging -x
#
#   ./scripts/test.sh       needs Python 3.11 or newer and pip; makes its own virtual environment in .venv
#
# PYTHON=/path/to/python3.12 chooses the interpreter. Tests marked `zoo`, `field` and `deployment` have lanes of
# their own: ./scripts/test_zoo.sh, ./scripts/test_field.sh and ./scripts/test_deployment.sh. With CI=true, a browser is
# installed where there is none.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"
# shellcheck source=scripts/pytest.sh
source "$ROOT/scripts/pytest.sh"
# shellcheck source=scripts/browser.sh
source "$ROOT/scripts/browser.sh"

ensure_venv .venv dev scripts/constraints.txt
bin="$ROOT/.venv/bin"
cd -- "$ROOT"

say "ruff format --check"
"$bin/python" -m ruff format --check .
say "ruff check"
"$bin/python" -m ruff check .
say "mypy --strict"
"$bin/python" -m mypy
say "lint-imports"
"$bin/lint-imports"
ensure_browser
run_pytest "$bin/python" -m "not zoo and not field and not deployment and not openvino" "$@"
