#!/usr/bin/env bash
# Makes every requirements/*.lock from its .in: hashed, no index named, all versions those of dev.lock.
# `make locks` keeps the versions there are; `make locks UPGRADE=--upgrade` takes the newest that fit together.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
uv=${UV:-../.venv/bin/uv}
upgrade=${1:-}

compile() {  # name, further options
  local name=$1; shift
  echo "lock $name"
  "$uv" pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
    "$@" -o "$name.lock" "$name.in"
}

compile dev $upgrade
pins=$(mktemp)
trap 'rm -f "$pins"' EXIT
grep -oE '^[a-zA-Z0-9_.-]+==[^ ]+' dev.lock > "$pins"
# The same runtime under its two names: with and without CUDA.
sed -n 's/^onnxruntime-gpu==/onnxruntime==/p' "$pins" >> "$pins"
for name in tools gateway ingest trainer predictor watchdog local sdk; do
  compile "$name" -c "$pins" --no-annotate
done
# The CUDA libraries are wanted beside ONNX Runtime only where no torch brings its own.
grep -vE '^nvidia-|^cuda-' "$pins" > "$pins.gpu"
compile predictor-gpu -c "$pins.gpu" --no-annotate
rm -f "$pins.gpu"
compile database --no-annotate
compile keras --no-annotate
# For measurements, for tests with other projects' clients and for fuzzing, in environments of their own.
compile bench-peers --no-annotate
for peer in triton mlserver litserve bentoml ray; do  # each apart: they hold numpy and protobuf to different versions
  compile "peer-$peer" --no-annotate
done
compile clients --no-annotate
compile fuzz -c "$pins" --no-annotate
# Only files of these are read.
compile examples --no-deps --no-annotate
