#!/usr/bin/env bash
# Regenerates lepton/contracts/pb from proto/: one flat package, with types for mypy. `make proto` calls it.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
out=${1:-$root/lepton/contracts/pb}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
PATH="$(dirname "$python"):$PATH"

# Flat copies, so that the generated modules import one another from one package.
mkdir -p "$scratch/lepton/contracts/pb" "$scratch/gen"
for file in "$root"/proto/lepton/v1/*.proto "$root"/proto/inference/*.proto; do
  [ -e "$file" ] || continue
  sed -E 's#import "lepton/v1/#import "lepton/contracts/pb/#' "$file" > "$scratch/lepton/contracts/pb/$(basename "$file")"
done
with_services=$(grep -lE '^service ' "$scratch"/lepton/contracts/pb/*.proto || true)
"$python" -m grpc_tools.protoc -I "$scratch" --python_out="$scratch/gen" --mypy_out="quiet:$scratch/gen" \
  "$scratch"/lepton/contracts/pb/*.proto
[ -z "$with_services" ] || "$python" -m grpc_tools.protoc -I "$scratch" --grpc_python_out="$scratch/gen" \
  --mypy_grpc_out="quiet:$scratch/gen" $with_services
mkdir -p "$out"
rm -f "$out"/*_pb2*.py "$out"/*_pb2*.pyi
cp "$scratch"/gen/lepton/contracts/pb/* "$out"/
[ -e "$out/__init__.py" ] || echo '"""Generated from proto/ by tools/proto.sh; never edited by hand."""' > "$out/__init__.py"
