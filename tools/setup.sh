#!/usr/bin/env bash
# Checks what the machine must have, all of it at once, and makes .venv from the hashed locks. Under a second when
# nothing has changed. `make setup`, and every target that needs .venv, calls it.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv/.set-up
want=$(cat requirements/dev.lock requirements/tools.lock pyproject.toml tools/setup.sh | sha256sum | cut -d' ' -f1)
if [ -x .venv/bin/lepton ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ]; then
  tools/examples.sh
  exec tools/wire.sh --quietly
fi

problems=()
have() { command -v "$1" > /dev/null 2>&1; }
need() { problems+=("$1"); }

python=
for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
  if have "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  need "Python 3.11 or newer was not found: install it (Debian 12: apt-get install python3 python3-venv) or name it: make up PYTHON=/path/to/python3"
elif ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  need "$python cannot make environments: install its venv module (Debian: apt-get install python3-venv)"
fi
java=${JAVA_HOME:+$JAVA_HOME/bin/}java
if ! have "$java"; then
  need "no Java was found: install a JDK 17 or newer (Debian: apt-get install openjdk-17-jdk-headless) or set JAVA_HOME"
else
  release=$("$java" -version 2>&1 | sed -nE 's/.*version "(1\.)?([0-9]+).*/\2/p' | head -n 1)
  [ "${release:-0}" -ge 17 ] || need "Java ${release:-?} is too old: install a JDK 17 or newer, or set JAVA_HOME to one"
fi
have mvn || need "Maven was not found: it fetches Kafka (Debian: apt-get install maven)"
have go || need "Go was not found: it builds grpcurl, Jaeger and the compose check (Debian: apt-get install golang-go, 1.24 or newer)"
free_mb=$(df -Pm . | awk 'NR == 2 {print $4}')
needed_mb=$([ -d .venv ] && echo 2000 || echo 12000)
[ "$free_mb" -ge "$needed_mb" ] || need "$free_mb MB are free here and set-up needs $needed_mb MB: free some, or clone elsewhere"
if [ ${#problems[@]} -gt 0 ]; then
  printf 'set-up: %s\n' "${problems[@]}" >&2
  exit 1
fi
have npm || echo "  note: without Node's npm 'make test' cannot lint proto/"

step() {  # what, command...
  local what=$1 began=$SECONDS
  shift
  "$@"
  printf '  %-60s %6d s\n' "$what" $((SECONDS - began))
}
make_environment() {
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements/tools.lock
}
install_checkout() {
  .venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation -e .
}
began=$SECONDS
echo "Setting up .venv (about 3 GB to fetch the first time)"
rm -f "$stamp"
step "environment, $("$python" --version)" make_environment
# Compiled here once, since where Python may not write bytecode every start of every service would compile anew.
step "$(grep -c '^[a-z]' requirements/dev.lock) packages, each checked against its hash" \
  .venv/bin/uv pip sync -q --compile-bytecode --require-hashes --python .venv/bin/python requirements/dev.lock
step "Lepton itself, and its command .venv/bin/lepton" install_checkout
step "real rows for the examples" tools/examples.sh
echo "$want" > "$stamp"
tools/wire.sh
echo "set up in $((SECONDS - began)) s"
