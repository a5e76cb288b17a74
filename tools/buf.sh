#!/usr/bin/env bash
# Checks proto/ with buf: `lint`, `breaking` (against proto/baseline.binpb), or `baseline` to renew what is compared with;
# `install` fetches buf and the AsyncAPI schema. Node is optional: without it one line says that nothing was checked.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v npm > /dev/null; then
  echo "buf: nothing checked, Node is not installed; remedy: install Node 18 or newer" >&2
  exit 0
fi
buf=tools/node_modules/.bin/buf
if [ ! -x "$buf" ] && ! said=$(npm ci --prefix tools --no-audit --no-fund 2>&1); then
  printf '%s\nbuf: npm could not install what tools/package-lock.json names\n' "$said" >&2
  exit 1
fi
case ${1:-} in
  lint) "$buf" lint "${@:2}" ;;
  breaking) "$buf" breaking "${@:2}" --against proto/baseline.binpb ;;
  baseline) "$buf" build --exclude-source-info -o proto/baseline.binpb ;;
  install) ;;
  *) echo "usage: tools/buf.sh lint|breaking|baseline|install" >&2; exit 2 ;;
esac
