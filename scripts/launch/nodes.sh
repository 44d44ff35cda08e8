#!/usr/bin/env bash
# mmrl on several machines: HOSTS=hostfile GPUS=8 scripts/launch/nodes.sh train RECIPE.yaml [key=value ...] [--resume]
#   HOSTS      a file with a machine a line, the first is the meeting place; `slots=4` after its name overrides GPUS there
#   GPUS       processes on each machine (default 8)
#   PORT       of the meeting place, free on the first machine (default 29500)
#   PYTHON     of the environment with mmrl, the same path everywhere (default: the python of this shell)
#   PASS       names of variables that go along, no secrets: everybody on a machine sees them (default: HF_HOME HF_HUB_OFFLINE
#              NCCL_SOCKET_IFNAME NCCL_IB_HCA NCCL_DEBUG OMP_NUM_THREADS DS_ACCELERATOR)
#   SSH        command that logs in without a password (default: ssh -o BatchMode=yes)
#   --dry-run  as the first word: print the commands, start nothing. Later it is mmrl's own.
# Every machine needs this folder under the same path, with the data and `runs`: a shared file system.
# SIGTERM, SIGUSR1 and Ctrl-C reach all processes, and the exit code is the first that is not 0: 75 says that the run was
# saved and wants `--resume`. When one machine fails, the others are told to end, and after GRACE seconds (60) are killed.
set -uo pipefail
dry_run=false
[ "${1-}" != --dry-run ] || { dry_run=true; shift; }
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -gt 0 ] || usage
[ -f "${HOSTS:-}" ] || { echo "nodes.sh: HOSTS=${HOSTS:-} is not a file" >&2; usage; }

hosts=() slots=()
while read -r host rest || [ -n "$host" ]; do # the last line may have no end
  host=${host%$'\r'}
  case $host in '' | '#'*) continue ;; esac
  hosts+=("$host")
  count=${GPUS:-8}
  case $rest in *slots=*) rest=${rest#*slots=} && count=${rest%%[!0-9]*} ;; esac
  case $count in '' | 0 | *[!0-9]*) echo "nodes.sh: $host has ${count:-no} processes: slots=... and GPUS are 1 or more" >&2; exit 2 ;; esac
  slots+=("$count")
done <"$HOSTS"
[ ${#hosts[@]} -gt 0 ] || { echo "nodes.sh: $HOSTS names no machine" >&2; exit 2; }

read -ra ssh <<<"${SSH:-ssh -o BatchMode=yes}"
python=${PYTHON:-$(command -v python)}
id=mmrl-$$-$(date +%s)
variables=()
for name in ${PASS:-HF_HOME HF_HUB_OFFLINE NCCL_SOCKET_IFNAME NCCL_IB_HCA NCCL_DEBUG OMP_NUM_THREADS DS_ACCELERATOR}; do
  [ -z "${!name-}" ] || variables+=("$name=${!name}")
done

command_of() { # NODE ARGUMENT...: what the shell of a machine is given; its process can be found by the file
  local node=$1 words
  printf -v words ' %q' env ${variables[@]+"${variables[@]}"} "$python" -m mmrl.torchrun "--nnodes=${#hosts[@]}" \
    "--node-rank=$node" "--nproc-per-node=${slots[$node]}" "--master-addr=${hosts[0]#*@}" "--master-port=${PORT:-29500}" \
    -m mmrl "${@:2}"
  printf 'cd %q && echo $$ >/tmp/%s.%s && exec%s' "$PWD" "$id" "$node" "$words"
}

if $dry_run; then
  for node in "${!hosts[@]}"; do echo "${ssh[*]} ${hosts[$node]} '$(command_of "$node" "$@")'"; done
  exit
fi

tell() { # SIGNAL: to the launcher of every machine that still runs, which passes it on
  for node in "${!hosts[@]}"; do
    kill -0 "${running[$node]:-none}" 2>/dev/null || continue
    "${ssh[@]}" "${hosts[$node]}" "kill -$1 \$(cat /tmp/$id.$node)" 2>/dev/null &
  done
}
clean() { for node in "${!hosts[@]}"; do "${ssh[@]}" "${hosts[$node]}" "rm -f /tmp/$id.$node" & done; wait; }
trap 'tell TERM' TERM INT HUP
trap 'tell USR1' USR1
trap clean EXIT

running=()
for node in "${!hosts[@]}"; do
  # In a group of its own, so that Ctrl-C does not cut the connection before the run is saved.
  set -m
  "${ssh[@]}" "${hosts[$node]}" "$(command_of "$node" "$@")" </dev/null &
  running[$node]=$!
  set +m
done

code=0 left=${#hosts[@]} ended=()
while [ "$left" -gt 0 ]; do
  left=0
  for node in "${!hosts[@]}"; do
    [ -z "${ended[$node]-}" ] || continue
    if kill -0 "${running[$node]}" 2>/dev/null; then left=$((left + 1)) && continue; fi
    wait "${running[$node]}"
    ended[$node]=$?
    [ "${ended[$node]}" = 0 ] || echo "nodes.sh: ${hosts[$node]} ended with exit code ${ended[$node]}" >&2
    [ "$code" != 0 ] || code=${ended[$node]}
    if [ "${ended[$node]}" != 0 ] && [ -z "${deadline-}" ]; then
      [ "${ended[$node]}" = 75 ] || tell TERM
      deadline=$((SECONDS + ${GRACE:-60}))
    fi
  done
  if [ "$left" -gt 0 ] && [ -n "${deadline-}" ] && [ "$SECONDS" -ge "$deadline" ]; then
    tell TERM # the second one kills
    deadline=$((SECONDS + 5))
  fi
  sleep 0.5
done
exit "$code"
