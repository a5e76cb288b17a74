#!/usr/bin/env bash
# The matrix of faults against a stack of its own, three rounds, about an hour; the table goes to docs/reliability.
set -euo pipefail
cd "$(dirname "$0")/.."
home=$PWD/.local/chaos
export XDG_CONFIG_HOME=$home/config
mkdir -p "$home"
down() { .venv/bin/python -m deploy.local down --home "$home/stack"; }
.venv/bin/python -m deploy.local up --home "$home/stack" --breakable --example
trap down EXIT
.venv/bin/python -m examples.phishing.write "$home/phishing.csv"
.venv/bin/lepton chaos run deploy/chaos/plans/matrix.yaml --home "$home/stack" --rows "$home/phishing.csv" \
  --out docs/reliability/matrix.md "$@"
