#!/usr/bin/env bash
# Everything the project promises, cheap checks first; ends at the first that fails. `make test` calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin

check() {  # what, command...
  local what=$1 began=$SECONDS
  shift
  if ! said=$("$@" 2>&1); then
    printf '%s\n\n%s failed: %s\n' "$said" "$what" "$*" >&2
    exit 1
  fi
  printf '  %-60s %6d s\n' "$what" $((SECONDS - began))
}

if ! "$bin/python" -m deploy.local jaeger --if-built > /dev/null; then
  echo "  (Jaeger is being built in the background, for the tests that follow a trace)"
  nice -n 10 "$bin/python" -m deploy.local jaeger > /dev/null 2>&1 &
fi
check "ruff" "$bin/ruff" check .
check "mypy --strict" "$bin/mypy" lepton lepton_ai services deploy tools examples tests
check "import rules" "$bin/lint-imports"
check "sizes" "$bin/python" -m tools.budget
check "buf lint" tools/buf.sh lint
check "buf breaking" tools/buf.sh breaking
rings=()
for ring in unit property contract integration system chaos; do
  [ -d "tests/$ring" ] && rings+=("tests/$ring")
done
# Not exec: a Jaeger still being built belongs to this shell.
# The slowest are named: an hour is all there is for all of them.
"$bin/pytest" -q -m "not gpu" --durations=30 --durations-min=5 "${rings[@]}" "$@"
