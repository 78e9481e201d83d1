# shellcheck shell=bash
# Sourced by the scripts beside it: finds a Python, makes a virtual environment once, reuses it while it fits.

ROOT="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

say() { printf '==> %s\n' "$*" >&2; }

die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

# Print the interpreter to use: $PYTHON where it is set (and then no other), else the first that is new enough.
find_python() {
  local candidate found
  if [[ -n "${PYTHON:-}" ]]; then
    command -v -- "$PYTHON" >/dev/null || die "PYTHON=$PYTHON is not a program; set PYTHON to a Python 3.11 or newer"
    found="$("$PYTHON" --version 2>&1)" || die "PYTHON=$PYTHON does not run: $found"
    is_new_enough "$PYTHON" ||
      die "PYTHON=$PYTHON is $found, expected Python 3.11 or newer; set PYTHON=/path/to/python3.11 or newer"
    printf '%s\n' "$PYTHON"
    return
  fi
  for candidate in python3 python python3.14 python3.13 python3.12 python3.11; do
    if command -v -- "$candidate" >/dev/null && is_new_enough "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  found="$(python3 --version 2>&1 || true)"
  die "no Python 3.11 or newer on PATH (python3: ${found:-not found}); install one, or set PYTHON=/path/to/python3.11"
}

# make_venv PYTHON FOLDER: with pip in it, also where the distribution ships Python without ensurepip.
make_venv() {
  local python="$1" venv="$2"
  rm -rf -- "$venv"
  if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
    rm -rf -- "$venv"
    { "$python" -m venv --without-pip "$venv" && "$python" -m pip --python "$venv/bin/python" install --quiet pip; } ||
      die "cannot make a virtual environment with $python; install its venv package (Debian: apt-get install python3-venv)"
  fi
}

# ensure_venv FOLDER EXTRAS CONSTRAINTS: an environment with bnfold[EXTRAS] at the pinned versions, bnfold editable.
# A stamp per set of extras remembers what was installed; anything else in FOLDER is replaced.
ensure_venv() {
  local venv="$ROOT/$1" extras="$2" constraints="$ROOT/$3" python stamp wanted base
  python="$(find_python)"
  stamp="$venv/.bnfold-${extras//,/-}"
  base="$ROOT $("$python" -c 'import sys; print(sys.version, sys.base_prefix)') $(cksum <"$constraints")"
  wanted="$base $(cksum <"$ROOT/pyproject.toml")"
  if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]] && "$venv/bin/python" -c 'import bnfold' 2>/dev/null; then
    say "environment: $venv (reused)"
    return
  fi
  if [[ ! -f "$venv/.bnfold-base" || "$(<"$venv/.bnfold-base")" != "$base" ]]; then
    say "environment: $venv (new, $("$python" --version 2>&1))"
    make_venv "$python" "$venv"
  fi
  say "installing bnfold[$extras] with the versions of $3"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints" -e "$ROOT[$extras]" >&2 ||
    die "pip could not install bnfold[$extras] (its lines are above)"
  printf '%s' "$base" >"$venv/.bnfold-base"
  printf '%s' "$wanted" >"$stamp"
}
