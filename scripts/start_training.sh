# Sourced by the training scripts after the line that says what each of them is given:
#
#   inputs=(steps=android-control/train.json screenshots=android-control)
#   source "$(dirname "$0")/start_training.sh"
#
# The first arguments of the script become $steps and $screenshots. `--dry-run` ends after every check: it works in a folder
# that is removed afterwards, so it writes nothing, and without arguments it takes the format samples that `inputs` name
# (tests/data_pipelines/formats) and the tiny model, converted and read by the script's own commands. Two more lines a script
# may have before that: `base=MODEL`, where later stages begin with what earlier ones make, is what a dry run looks at in their
# place; `sample_settings=(key=value ...)` are settings of a dry run on the samples, where no judge is served.
#
# `--resume` goes on where the script was ended: files and models that are there are kept, as always, and runs and
# supervised trainings that are there are continued, where without it they are refused.
#
# GPUS=8 bash scripts/train_x.sh ... trains with so many processes on this machine (scripts/launch/node.sh), and
# LAUNCH="scripts/launch/nodes.sh" HOSTS=hostfile with whatever the command says. Supervised stages and evaluations are shared
# by the processes as well; of the settings, `distribution.strategy=...` holds for the supervised stages too.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
samples=$project/tests/data_pipelines/formats

usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
fail() { printf '%s\n\n' "$1" >&2 && usage >&2 && exit 2; }

given=() overrides=() distribution=() dry_run=false resume=false sampled=false
for word in "$@"; do
  case $word in
    --help | -h) usage && exit ;;
    --dry-run) dry_run=true ;;
    --resume) resume=true ;;
    distribution.*=*) overrides+=("$word") distribution+=("$word") ;;
    *=*) overrides+=("$word") ;;
    *) given+=("$word") ;;
  esac
done

stage_settings=() sample_settings=(${sample_settings[@]+"${sample_settings[@]}"})
if $dry_run && [ ${#given[@]} = 0 ]; then
  for input in "${inputs[@]}"; do given+=("$samples/${input#*=}"); done
  sampled=true base=tiny overrides=("${sample_settings[@]}" "${overrides[@]}")
fi
if $dry_run; then stage_settings=(${base:+"model.path=$base"} --dry-run); fi

[ ${#given[@]} = ${#inputs[@]} ] || fail "${#inputs[@]} files or folders are needed; found ${#given[@]}: ${given[*]-}"
for input in "${inputs[@]}"; do
  [ -e "${given[0]}" ] || fail "${given[0]} does not exist."
  printf -v "${input%%=*}" %s "$(realpath "${given[0]}")"
  given=("${given[@]:1}")
done

cd "$project"
if [ ! -x "${VIRTUAL_ENV:-}/bin/mmrl" ]; then # an active environment that has mmrl is used as it is
  bash scripts/setup.sh
  export PATH="$project/.venv/bin:$PATH"
fi
if $dry_run; then
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  cd "$scratch"
  ln -s "$project/configs" .
  if ! $sampled && [ -d "$project/models" ]; then ln -s "$project/models" .; fi
fi

ask_for_boxed='prompt="{question}\nReason inside <think> </think>, then write <answer> </answer> with the result in \\boxed{}."'

make() { # FILE COMMAND...: `mmrl data COMMAND... --out FILE`, unless FILE is there
  [ -f "$1" ] || mmrl data "${@:2}" --out "$1"
}

stand_in() { # FILE ROWS: in a dry run ROWS stand for what a model would write to FILE
  ! $dry_run || mmrl data convert rows "$2" --out "$1"
}

draw() { # COUNT FROM... FILE: so many lines, the same ones every time, unless FILE is there
  local file=${*: -1}
  [ -f "$file" ] || cat "${@:2:$#-2}" | shuf -n "$1" --random-source=<(yes 0) >"$file"
}

launch=(mmrl)
if [ -n "${LAUNCH-}" ]; then
  read -ra launch <<<"$LAUNCH"
  [ ! -f "$project/${launch[0]}" ] || launch[0]=$project/${launch[0]}
elif [ -n "${GPUS-}" ]; then
  launch=("$project/scripts/launch/node.sh")
fi

cold_start() { # FOLDER RECIPE [key=value ...]: supervised fine-tuning into FOLDER, unless it is there
  local continued=()
  if $resume && [ -f "$1.unfinished/sft.yaml" ]; then continued=(--resume); fi
  [ -d "$1" ] || "${launch[@]}" sft "${@:2}" "${stage_settings[@]}" "${distribution[@]}" "${continued[@]}"
}

train() { # RECIPE [key=value ...], then the settings of the command line; with --resume a run that is there is continued
  local word runs=runs name=${1##*/} continued=()
  name=${name%.yaml}
  for word in "${@:2}" "${overrides[@]}"; do
    case $word in runs=*) runs=${word#*=} ;; name=*) name=${word#*=} ;; esac
  done
  if $resume && [ -f "$runs/$name/config.yaml" ]; then continued=(--resume); fi
  "${launch[@]}" train "$@" "${stage_settings[@]}" "${overrides[@]}" "${continued[@]}"
}

evaluate() { # nothing to evaluate after a dry run
  $dry_run || "${launch[@]}" eval "$@"
}
