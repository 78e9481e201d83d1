# shellcheck shell=bash
# Sourced by scripts/test.sh and scripts/test_deployment.sh: a browser for the tests of report.html and of pages.

# Install one, as root and with apt-get, where there is none. Without it these tests are skipped, and pytest says why.
ensure_browser() {
  local name
  for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && return
  done
  [[ "${CI:-}" == true && "$(id -u)" == 0 ]] && command -v apt-get >/dev/null || return 0
  say "installing chromium"
  {
    timeout 120 env DEBIAN_FRONTEND=noninteractive apt-get -qq update &&
      timeout 300 env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium
  } >/dev/null 2>&1 || say "chromium could not be installed: the tests that need a browser are skipped"
}
