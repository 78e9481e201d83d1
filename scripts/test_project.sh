#!/usr/bin/env bash
# What others build on: the workflows, forms and citation by their schemas; the types, as a user's own mypy and pyright
# see them.
#
#   ./scripts/test_project.sh   needs Python 3.11 or newer and pip; shares the environment .venv-docs of ./scripts/docs.sh
#
# PYTHON=/path/to/python3.12 chooses the interpreter. pyright brings Node where there is none.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

if [[ -z "${DOCS_PYTHON:-}" ]]; then
  ensure_venv .venv-docs docs scripts/constraints-docs.txt
  DOCS_PYTHON="$ROOT/.venv-docs/bin/python"
fi
cd -- "$ROOT"

schema() { "$DOCS_PYTHON" -m check_jsonschema --builtin-schema "$@" >&2; }
say "schemas of workflows, forms and citation"
schema vendor.github-workflows .github/workflows/*.yml
schema custom.github-workflows-require-timeout .github/workflows/*.yml
schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/{fault,slower,stays}.yml
schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
schema vendor.dependabot .github/dependabot.yml
schema vendor.citation-file-format CITATION.cff

say "a user's own types"
user="$(mktemp -d)"
trap 'rm -rf -- "$user"' EXIT
cp scripts/typed_use/right.py scripts/typed_use/wrong.py "$user"
(
  cd -- "$user"
  "$DOCS_PYTHON" -m mypy --strict right.py >&2
  "$DOCS_PYTHON" -m pyright --pythonpath "$DOCS_PYTHON" right.py >&2
  # What is wrong must be seen, in each line that says so: else the types would be Any.
  expected="$(grep -c '# wrong' wrong.py)"
  mypy="$("$DOCS_PYTHON" -m mypy --strict wrong.py | grep -c ': error:' || true)"
  pyright="$("$DOCS_PYTHON" -m pyright --pythonpath "$DOCS_PYTHON" wrong.py | grep -c ' - error:' || true)"
  say "wrong uses: $expected; mypy sees $mypy, pyright $pyright"
  [[ "$mypy" == "$expected" && "$pyright" == "$expected" ]] || die "not every wrong use is seen by its type"
)
