#!/usr/bin/env bash
# README.md as a new user would take it: its install line in a fresh environment, then its code and commands; once as a
# script and once in a notebook.
#
#   ./scripts/test_readme.sh   needs Python 3.11 or newer and pip; makes .venv-readme from nothing each time
#
# PYTHON=/path/to/python3.12 chooses the interpreter.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

cd -- "$ROOT"
if [[ -z "${README_PYTHON:-}" ]]; then
  install="$(grep -m 1 '^    pip install' README.md)"
  say "a fresh environment:$install"
  make_venv "$(find_python)" "$ROOT/.venv-readme"
  README_PYTHON="$ROOT/.venv-readme/bin/python"
  # shellcheck disable=SC2086 # the line's words
  eval "$README_PYTHON -m ${install# *} --quiet -c scripts/constraints.txt" >&2 ||
    die "the install line of README.md failed (pip's lines are above)"
  "$README_PYTHON" -m pip install --quiet -c scripts/constraints.txt nbclient ipykernel >&2
fi

work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
"$README_PYTHON" scripts/readme_blocks.py "$work"
mkdir -- "$work/as-script" "$work/in-notebook" "$work/bin"
printf '#!/bin/sh\nexec "%s" -m bnfold "$@"\n' "$README_PYTHON" >"$work/bin/bnfold"
chmod +x "$work/bin/bnfold"
export PATH="$work/bin:$PATH" PYTHONPATH="$ROOT"

say "as a script"
(cd -- "$work/as-script" && "$README_PYTHON" ../own_network.py && bash -euo pipefail ../commands.sh)
say "in a notebook"
(cd -- "$work/in-notebook" && "$README_PYTHON" -c '
import nbclient, nbformat
notebook = nbformat.read("../own_network.ipynb", as_version=4)
nbclient.NotebookClient(notebook, timeout=600).execute()
outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
assert any("passed" in output.get("text", "") for output in outputs), outputs
')
for folder in as-script in-notebook; do
  [[ -f "$work/$folder/exported/model.onnx" ]] || die "README.md wrote no model.onnx ($folder)"
done
say "README.md does what it says"
