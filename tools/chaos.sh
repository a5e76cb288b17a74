#!/usr/bin/env bash
# A plan of faults against a stack of its own; its page goes to docs/reliability. `matrix` takes some seven hours, in one
# go or, with `--resume FILE`, in several; `soak` nearly three: chaos.sh PLAN [what `lepton chaos run` takes besides]
set -euo pipefail
cd "$(dirname "$0")/.."
plan=$1
shift
home=$PWD/.local/chaos
export XDG_CONFIG_HOME=$home/config
mkdir -p "$home"
down() { .venv/bin/python -m deploy.local down --home "$home/stack"; }
.venv/bin/python -m deploy.local up --home "$home/stack" --breakable --example
trap down EXIT
.venv/bin/python -m examples.phishing.write "$home/phishing.csv"
.venv/bin/lepton chaos run "deploy/chaos/plans/$plan.yaml" --home "$home/stack" --rows "$home/phishing.csv" \
  --out "docs/reliability/$plan.md" "$@"
