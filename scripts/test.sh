#!/usr/bin/env bash
# Every check and test: lint, format, types, the types of the page (where node is), then pytest with one torch thread per process.
# usage: scripts/test.sh [pytest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

ruff check .
ruff format --check .
mypy
bash scripts/check_page.sh
pytest -n "$(getconf _NPROCESSORS_ONLN)" "$@" # nproc would say 1: it obeys OMP_NUM_THREADS
