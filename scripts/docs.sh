#!/usr/bin/env bash
# The site: every page of docs/, this README, the reference of every option and function. Options go to mkdocs build.
#
#   ./scripts/docs.sh       needs Python 3.11 or newer and pip; makes its own virtual environment in .venv-docs
#
# Strict: a warning ends it, and so does a page that would fetch anything. The site is build/site/index.html; it opens
# from the disk, and needs no network. PYTHON=/path/to/python3.12 chooses the interpreter.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

if [[ -z "${DOCS_PYTHON:-}" ]]; then
  ensure_venv .venv-docs docs scripts/constraints-docs.txt
  DOCS_PYTHON="$ROOT/.venv-docs/bin/python"
fi
cd -- "$ROOT"

say "mkdocs build --strict"
NO_MKDOCS_2_WARNING=1 PYTHONPATH="$ROOT" "$DOCS_PYTHON" -m mkdocs build --strict --quiet --clean "$@"
say "every page stands alone"
"$DOCS_PYTHON" scripts/check_site.py build/site
say "build/site/index.html"
