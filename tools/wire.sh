#!/usr/bin/env bash
# Builds what is native here where there is Rust, and says of each whether it is: the predictor's gRPC door
# (services/predictor/wire) and the loops of bus and ingest (lepton/native). Nothing depends on them: without them Python
# does the same. A build is kept outside the clone, by what it was made from. `tools/setup.sh` calls this with
# --quietly, which says nothing where nothing has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
quietly=${1:-}

say() { [ "$quietly" = --quietly ] && [ "${2:-}" = known ] || echo "  $label: $1"; }

use() {  # beside its name first, since a running service may have the old one mapped
  cmp -s "$kept/$made" "$made" && { say "native" known; return 0; }
  cp "$kept/$made" ".$made.new" && mv ".$made.new" "$made"
  say "native"
}

in_python() {
  rm -f "$made"
  say "python; $1" "${2:-}"
}

pins() { sort crates.pins; }

locked() {
  awk -F'"' '/^name = /{name=$2} /^version = /{version=$2} /^checksum = /{print name, version, $2}' "$1" | sort
}

build() {  # in a copy: Cargo.lock is made anew from crates.pins, so that no registry is named here
  local name version checksum
  rm -rf "$kept/source" && mkdir -p "$kept/source" && cp -r Cargo.toml src "$kept/source" || return 1
  local at=$kept/source
  cargo generate-lockfile --manifest-path "$at/Cargo.toml" || return 1
  while read -r name version checksum; do
    locked "$at/Cargo.lock" | grep -q "^$name $version " && continue
    cargo update --manifest-path "$at/Cargo.toml" -p "$name" --precise "$version" || return 1
  done < crates.pins
  if ! diff <(pins) <(locked "$at/Cargo.lock"); then
    echo "the crates are not those of crates.pins"
    return 1
  fi
  cargo build --release --locked --manifest-path "$at/Cargo.toml" --target-dir "$kept/target" || return 1
  cp "$kept/target/release/lib$library.so" "$kept/$made" && rm -rf "$kept/target" "$kept/source"
}

crate() (  # its folder, the name of its library, what it is called here
  library=$2 label=$3
  made=$library.abi3.so
  cd "$1"
  kept=$cache/$(basename "$1")/$( (uname -sm; cat Cargo.toml crates.pins src/*.rs) | sha256sum | cut -c1-32)
  mkdir -p "$kept"
  # Two clones may be set up at once: the second waits for the build of the first. macOS has no flock.
  ! command -v flock > /dev/null || { exec 9> "$kept/lock" && flock 9; }
  [ -f "$kept/$made" ] && { use; return; }
  [ -f "$kept/failed" ] && {
    in_python "the native one did not build: see $kept/log; remove $kept to try again" known
    return
  }
  # A cargo of rustup may be there without a toolchain behind it.
  cargo --version > /dev/null 2>&1 || { in_python "the native one is built where Rust's cargo works" known; return; }
  began=$SECONDS
  if build > "$kept/log" 2>&1; then
    echo "  $label: built the native one in $((SECONDS - began)) s"
    use
  else
    touch "$kept/failed"
    in_python "the native one did not build: see $kept/log; remove $kept to try again"
  fi
)

cache=${LEPTON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lepton}
crate services/predictor/wire native "gRPC door"
crate lepton/native loops "loops of bus and ingest"
