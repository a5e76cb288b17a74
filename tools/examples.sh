#!/usr/bin/env bash
# Puts the packages whose files are the rows of examples into .local/examples, by the hashed lock; without their own
# dependencies and whatever Python they ask for, since only files are read. At once when nothing has changed.
# tools/setup.sh calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=requirements/examples.lock
home=.local/examples
cmp -s "$lock" "$home/installed.lock" && exit
made=$home.$$
trap 'rm -rf "$made"' EXIT
.venv/bin/uv pip install -q --no-deps --require-hashes --only-binary :all: --python .venv/bin/python \
  --python-version 3.11 --target "$made" -r "$lock"
# Of MindMeld only the sentences are read: no program for another system, and no pickled model, is kept.
find "$made/mindmeld" -type f ! -path '*/kwik_e_mart/domains/*.txt' -delete
find "$made" -type d -empty -delete
cp "$lock" "$made/installed.lock"
rm -rf "$home"
mv "$made" "$home"
