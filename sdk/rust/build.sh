#!/bin/sh
# Builds a plug-in: sdk/rust/build.sh CRATE-FOLDER OUT.wasm
#
# It needs a Rust compiler with the core library for wasm32-unknown-unknown.
# rustup: `rustup target add wasm32-unknown-unknown`. Debian: `apt-get install
# rustc-web rust-web-src lld-19`, whose core library is built from source here.
# The same compiler and sources give the same bytes wherever they stand: since cargo
# makes names out of the places of path dependencies, the sources are copied to one
# place first. One build at a time may use it.
set -eu
from=$(cd "$1" && pwd)
case $2 in /*) out=$2 ;; *) out=$PWD/$2 ;; esac
target=${CARGO_TARGET_DIR:-$from/target}
kit=$(cd "$(dirname "$0")" && pwd)
place=/tmp/weir-guests
until mkdir "$place.lock" 2>/dev/null; do
  [ -n "$(find "$place.lock" -maxdepth 0 -mmin +15 2>/dev/null)" ] && rmdir "$place.lock" 2>/dev/null
  sleep 1
done
trap 'rm -rf "$place"; rmdir "$place.lock"' EXIT
rm -rf "$place"
sdk=$place/sdk/rust
crate=$place/examples/plugins/$(basename "$from")
mkdir -p "$sdk" "$crate"
cp -R "$kit/Cargo.toml" "$kit/src" "$sdk/"
for f in "$from"/*; do
  case $f in */target) ;; *) cp -R "$f" "$crate/" ;; esac
done
name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$crate/Cargo.toml" | head -n 1 | tr - _)
cd "$crate"
flags="--remap-path-prefix=$crate=crate --remap-path-prefix=$sdk=weir --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
if [ "${WEIR_RUST:-debian}" = debian ] && [ -x /usr/bin/rustc ] && [ -d /usr/lib/rustlib/src ]; then
  RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags -Clink-arg=--strip-debug" CARGO_TARGET_DIR=$target \
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld-19 \
    cargo build -q --release --target wasm32-unknown-unknown -Z build-std=core >&2
else
  RUSTFLAGS="$flags" CARGO_TARGET_DIR=$target cargo build -q --release --target wasm32-unknown-unknown >&2
fi
cp "$target/wasm32-unknown-unknown/release/$name.wasm" "$out"
