#!/usr/bin/env bash
# mmrl on several GPUs of this machine, a process on each: GPUS=8 scripts/launch/node.sh train RECIPE.yaml [key=value ...]
#   GPUS       processes (default: as many as there are GPUs; without any GPU say how many processes of the CPU)
#   PYTHON     of the environment with mmrl (default: python)
#   --dry-run  as the first word: print the command, start nothing. Later it is mmrl's own.
# SIGTERM and SIGUSR1 reach all processes, and the exit code is theirs: 75 says that the run was saved and wants `--resume`.
set -euo pipefail
run=(exec)
[ "${1-}" != --dry-run ] || { run=(echo); shift; }
[ $# -gt 0 ] || { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

gpus=${GPUS:-$(nvidia-smi --list-gpus 2>/dev/null | wc -l || true)}
case $gpus in *[!0-9]*) echo "node.sh: GPUS=$gpus is no number" >&2; exit 2 ;; esac
[ "$gpus" -gt 0 ] || { echo "node.sh: no GPU was found; GPUS=2 starts two processes on the CPU" >&2; exit 2; }
"${run[@]}" "${PYTHON:-python}" -m mmrl.torchrun --standalone "--nproc-per-node=$gpus" -m mmrl "$@"
