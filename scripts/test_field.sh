#!/usr/bin/env bash
# The tests marked `field`: files and trained networks by others through `bnfold inspect` and `fold-export`. Options go
# to pytest.
#
#   ./scripts/test_field.sh   in the environment of ./scripts/test.sh, on what ./scripts/fetch_field.sh fetches
#
# Exit code 0, and the reason on standard error, where none of these packages is there or can be had.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"
# shellcheck source=scripts/pytest.sh
source "$ROOT/scripts/pytest.sh"

"$ROOT/scripts/fetch_field.sh"
cd -- "$ROOT"
if ! ls -d -- "${BNFOLD_FIELD:-${XDG_CACHE_HOME:-$HOME/.cache}/bnfold/field}"/*/ >/dev/null 2>&1; then
  say "the tests marked field are skipped: none of the packages of scripts/constraints-field.txt could be fetched"
  exit 0
fi
run_pytest "$ROOT/.venv/bin/python" -m field "$@"
