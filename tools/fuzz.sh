#!/usr/bin/env bash
# Searches for bytes that break a decoder, in an environment of its own under .local/fuzz. `make fuzz` calls it.
# Options are those of `python -m tests.fuzz`, as in `make fuzz FUZZ="event_arrow --seconds 600"`.
set -euo pipefail
cd "$(dirname "$0")/.."
home=.local/fuzz
lock=requirements/fuzz.lock
if ! cmp -s "$lock" "$home/installed.lock"; then
  .venv/bin/uv venv -q --clear --python 3.11 "$home"
  .venv/bin/uv pip install -q --python "$home/bin/python" --require-hashes -r "$lock"
  cp "$lock" "$home/installed.lock"
fi
exec "$home/bin/python" -m tests.fuzz "$@"
