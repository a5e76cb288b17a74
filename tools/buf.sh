#!/usr/bin/env bash
# Checks proto/ with buf: `lint`, `breaking` (against proto/baseline.binpb), or `baseline` to renew what is compared with.
# Exit 4, and one line, where Node is not installed: these checks alone need it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v npm > /dev/null; then
  echo "buf: not checked, Node is not installed; remedy: install Node 18 or newer" >&2
  exit 4
fi
buf=tools/node_modules/.bin/buf
[ -x "$buf" ] || npm ci --prefix tools --no-audit --no-fund --silent
case ${1:-} in
  lint) "$buf" lint "${@:2}" ;;
  breaking) "$buf" breaking "${@:2}" --against proto/baseline.binpb ;;
  baseline) "$buf" build --exclude-source-info -o proto/baseline.binpb ;;
  install) ;;
  *) echo "usage: tools/buf.sh lint|breaking|baseline|install" >&2; exit 2 ;;
esac
