#!/usr/bin/env bash
# Puts what benches/gpu.sh needs on a machine without Rust into a folder: the release binary, the device tests, the bench of
# training, specs.
set -euo pipefail
cd "$(dirname "$0")/.."
to=${1:-target/gpu-carry}
rm -rf "$to"
mkdir -p "$to/specs"

cargo build --release
cp target/release/archc "$to/archc"
strip "$to/archc"

# the tests of the backend hold the device tests, which pass over where there is no GPU
tests=$(cargo test -p archc-emu --no-run --test backend --message-format=json | python3 -c '
import json, sys
found = [one["executable"] for one in map(json.loads, sys.stdin) if one.get("executable")]
print(found[-1])')
cp "$tests" "$to/tests"
strip "$to/tests"

# what takes training steps
steps=$(cargo bench --no-run --bench train --message-format=json | python3 -c '
import json, sys
found = [one["executable"] for one in map(json.loads, sys.stdin) if one.get("executable")]
print(found[-1])')
cp "$steps" "$to/train"
strip "$to/train"

for net in resnet50 resnet18; do
    printf 'archc 1\n\nbase %s { weights random(seed = 0) }\ntrain {\n    data folder("none")\n    loss cross_entropy\n    optimizer sgd(lr = 0.001, momentum = 0.9, weight_decay = 1e-4)\n}\n' \
        "$net" >"$to/specs/${net}_train.arch"
done
for net in resnet50 resnet18 mobilenet_v3_large vit_b_16; do
    printf 'archc 1\n\nbase %s\n' "$net" >"$to/specs/$net.arch"
done
grep -v '^#' examples/squeeze_and_excitation.arch >"$to/specs/se_resnet50.arch"

# so that the folder alone is enough: FOLDER/benches/gpu.sh --carry .
cargo run --quiet -p archc-cuda --example sources -- "$to/kernels"
mkdir -p "$to/benches"
cp benches/gpu*.sh benches/gpu*.py "$to/benches/"

du -sh "$to"/* | sort -h
