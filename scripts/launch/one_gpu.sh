#!/usr/bin/env bash
# mmrl on one GPU of this machine: GPU=3 scripts/launch/one_gpu.sh train RECIPE.yaml [key=value ...] [--resume]
#   GPU        number of the GPU (default 0)
#   --dry-run  as the first word: print the command, start nothing. Later it is mmrl's own.
set -euo pipefail
run=(exec)
[ "${1-}" != --dry-run ] || { run=(echo "CUDA_VISIBLE_DEVICES=${GPU:-0}"); shift; }
[ $# -gt 0 ] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

export CUDA_VISIBLE_DEVICES=${GPU:-0}
"${run[@]}" "${PYTHON:-python}" -m mmrl "$@"
