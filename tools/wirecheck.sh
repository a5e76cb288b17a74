#!/usr/bin/env bash
# Random bytes against the native wire's parsers (services/predictor/wire/check), where there is Rust; SECONDS a test as
# in `tools/wirecheck.sh 60`. With a nightly toolchain once more under AddressSanitizer. `make fuzz` calls it.
set -euo pipefail
cd "$(dirname "$0")/../services/predictor/wire"
seconds=${1:-5}
work=${LEPTON_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lepton}/wire/check
command -v cargo > /dev/null 2>&1 || { echo "wire parsers: not tried, Rust's cargo is not found"; exit 0; }
mkdir -p "$work"
rm -rf "$work/check" "$work/src"
cp -r check src "$work"
at=$work/check/Cargo.toml
cargo generate-lockfile -q --manifest-path "$at"
while read -r name version _; do
  grep -q "^name = \"$name\"\$" "$work/check/Cargo.lock" || continue
  cargo update -q --manifest-path "$at" -p "$name" --precise "$version"
done < crates.pins

try() {  # what it is called, options of cargo
  echo "wire parsers, $1: $seconds s a test"
  if WIRE_SECONDS=$seconds cargo "${@:2}" --release --locked --manifest-path "$at" --target-dir "$work/target" \
      -- --nocapture --test-threads=1 > "$work/log" 2>&1; then
    grep -E "^test |rounds$" "$work/log"
  else
    cat "$work/log"
    return 1
  fi
}

try "as built" test --tests
host=$(rustc -vV | sed -n 's/^host: //p')
if rustc +nightly -V > /dev/null 2>&1; then
  RUSTFLAGS=-Zsanitizer=address try "AddressSanitizer" +nightly test --tests --target "$host"
else
  echo "wire parsers: not tried under AddressSanitizer, which needs Rust's nightly toolchain"
fi
