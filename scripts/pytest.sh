# shellcheck shell=bash
# Sourced by the scripts that run tests, behind scripts/venv.sh.

MIB_A_WORKER=3072 # the largest networks of the zoo lane take this much

# run_pytest PYTHON OPTION ...: pytest with a worker for each CPU that this process may use, as far as memory goes, each
# of one thread; the slowest tests at the end. Of several options -n the last counts: -n 0 is one process, as for pdb.
# A test marked `alone` runs while the other workers wait (tests/conftest.py).
run_pytest() {
  local python="$1" n_workers
  shift
  n_workers="$("$python" - "$MIB_A_WORKER" <<'PYTHON'
import sys

import psutil

from bnfold.runtime import available_threads

print(max(1, min(available_threads(), psutil.virtual_memory().available // 2**20 // int(sys.argv[1]))))
PYTHON
  )"
  say "pytest, $n_workers workers"
  OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "$python" -m pytest -n "$n_workers" --dist worksteal --durations 15 "$@"
}
