#!/usr/bin/env bash
# Step by step, how near the networks of the race come to what the machine can do: `archc bench --profile` for each.
#
#     bash benches/layers.sh [FILE.md] [BATCH ..]
#
# Prints to FILE.md, or to the terminal; batches 1 and 32 where none is given. ARCHC names another binary than that of
# `cargo build --release`.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-/dev/stdout}
shift || true
batches=("${@:-}")
[ -n "${batches[0]}" ] || batches=(1 32)
archc=${ARCHC:-target/release/archc}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for network in resnet18 resnet50 vgg16 mobilenet_v2 mobilenet_v3_large efficientnet_b0; do
    printf 'archc 1\nbase %s\n' "$network" >"$folder/$network.arch"
done
cp benches/edited_resnet50.arch "$folder"

{
    for spec in "$folder"/*.arch; do
        for batch in "${batches[@]}"; do
            printf '## %s, batch %s\n\n```text\n' "$(basename "$spec" .arch)" "$batch"
            "$archc" bench "$spec" --batch "$batch" --profile --seconds 2 --device cpu 2>/dev/null
            printf '```\n\n'
        done
    done
} >"$folder/layers.md"
cat "$folder/layers.md" >"$out"
