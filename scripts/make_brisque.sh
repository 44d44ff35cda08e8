#!/usr/bin/env bash
# Rebuild the model of the `brisque` reward from the support vectors in the package `brisque` 0.2.0 (Apache-2.0). Its text
# file is parsed, and of its pickle only the numbers are read: nothing of it is run.
# usage: scripts/make_brisque.sh             needs the package index; seconds. Result: mmrl/assets/brisque
set -euo pipefail
cd "$(dirname "$0")/.."
bash scripts/setup.sh
export PATH="$PWD/.venv/bin:$PATH"

temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT
python -m pip download --quiet --no-deps --dest "$temporary" brisque==0.2.0
mkdir -p mmrl/assets/brisque
python - "$temporary" mmrl/assets/brisque/model.safetensors <<'EOF'
import pickletools
import sys
import zipfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

(wheel,) = Path(sys.argv[1]).glob("*.whl")
with zipfile.ZipFile(wheel) as package:
    head, body = package.read("brisque/models/svm.txt").decode().split("\nSV\n")
    stored = package.read("brisque/models/normalize.pickle")
settings = dict(line.split(" ", 1) for line in head.splitlines())
rows = [line.split() for line in body.splitlines() if line.strip()]
vectors = np.array([[float(entry.split(":")[1]) for entry in row[1:]] for row in rows], dtype=np.float32)
# {"min_": [36 numbers], "max_": [36 numbers]}
limits = [value for _, value, _ in pickletools.genops(stored) if isinstance(value, float)]
assert vectors.shape == (770, 36) and len(limits) == 72, (vectors.shape, len(limits))
save_file({
    "vectors": vectors,
    "coefficients": np.array([float(row[0]) for row in rows], dtype=np.float32),
    "range": np.array(limits, dtype=np.float32).reshape(2, 36),
    "gamma": np.array(settings["gamma"], dtype=np.float32),
    "rho": np.array(settings["rho"], dtype=np.float32),
}, sys.argv[2])
EOF
du -sh mmrl/assets/brisque
