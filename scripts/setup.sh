#!/usr/bin/env bash
# Make .venv and install mmrl with the tested versions of constraints.txt. Run again, it changes nothing and takes a second.
# usage: scripts/setup.sh [extra ...]     extras: dev (default), bench, capture, charts, images, loggers
# Needs Python 3.10 or newer, a C compiler and a package registry. PYTHON=... chooses the interpreter.
# With `dev` or `capture`, as root on Debian and its kin, Chromium is installed too if no such browser is there; without
# one everything works but `mmrl data capture` and its tests.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
extras=${*:-dev}
extras=${extras// /,}

fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

install_system_package() { # name, what for
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing the system package $1 ($2)"
    apt-get update -qq && apt-get install -y -qq "$1" >/dev/null && return
  fi
  fail "the system package $1 is missing ($2); install it, for example with: sudo apt-get install $1"
}

find_browser() { # as data_pipelines/gui/browser.py looks for it
  command -v chromium || command -v google-chrome || command -v chromium-browser || command -v google-chrome-stable
}

install_browser() {
  case ",$extras," in *,dev,* | *,capture,*) ;; *) return 0 ;; esac
  if find_browser >/dev/null || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return 0; fi
  echo "setup: installing the system package chromium (mmrl data capture opens pages in it)"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } \
    >/dev/null 2>&1 || echo "setup: chromium could not be installed; mmrl data capture needs it, nothing else does"
}

command -v "$python" >/dev/null || fail "$python not found; install Python 3.10 or newer, or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail "$("$python" --version) is too old; mmrl needs Python 3.10 or newer (PYTHON=... chooses another)"
command -v gcc >/dev/null || command -v cc >/dev/null || install_system_package gcc "deepspeed compiles its operators"
"$python" -c 'import ensurepip, venv' 2>/dev/null || install_system_package python3-venv "python -m venv needs it"

stamp=.venv/installed
wanted() {
  { "$python" --version; pwd; echo "$extras"; find_browser || echo "no browser"; cat pyproject.toml constraints.txt; } | cksum
}
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ]; then exit 0; fi
install_browser

# Versions are pinned for Python 3.11 and newer; some pinned releases do not exist for 3.10.
pins=(--constraint constraints.txt)
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || pins=()

echo "setup: installing into .venv (a few minutes the first time)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check "${pins[@]}" --editable ".[$extras]" 2> >(grep -v '^WARNING: Location' >&2)
wanted >"$stamp"
