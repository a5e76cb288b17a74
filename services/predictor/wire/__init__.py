"""The native wire: a gRPC front in Rust, built by tools/wire.sh where there is a Rust toolchain."""
