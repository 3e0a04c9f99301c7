#!/bin/sh
# Builds a plug-in and puts its manifest in:
#   sdk/go/build.sh FOLDER OUT.wasm
# FOLDER holds package main and manifest.json. It needs Go 1.24 or newer. The
# same compiler and sources give the same bytes wherever they stand.
set -eu
folder=$(cd "$1" && pwd)
sdk=$(cd "$(dirname "$0")" && pwd)
case $2 in /*) out=$2 ;; *) out=$PWD/$2 ;; esac
(cd "$folder" && CGO_ENABLED=0 GOOS=wasip1 GOARCH=wasm GOFLAGS=-buildvcs=false \
  go build -buildmode=c-shared -trimpath -ldflags='-s -w -buildid=' -o "$out" .)
(cd "$sdk" && go run ./pack "$out" "$folder/manifest.json")
