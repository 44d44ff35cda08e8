# Sourced by the demos: `source scripts/demo_start.sh NAME "$@"`, from the project's folder. Installs, sets the
# environment, and moves an older run of the same name away; $name is the run's, NAME unless `name=...` is given.
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(nproc)}"

name=$1
shift
for override in "$@"; do case $override in name=*) name=${override#name=} ;; esac; done
if [ -e "runs/$name" ]; then
  old="runs/$name-$(date +%Y%m%d-%H%M%S)"
  echo "runs/$name is kept as $old"
  mv "runs/$name" "$old"
fi
