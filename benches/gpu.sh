#!/usr/bin/env bash
# One call on a machine with a GPU and PyTorch, and neither Rust nor a network: device tests, then archc beside PyTorch in
# the same run, a table last. benches/gpu_pack.sh makes the folder that it needs.
#
#   benches/gpu.sh [--quick | --train] [--carry FOLDER] [--out FOLDER] [--device DEVICE] [--seconds N] [--compile "NET:BATCH .."]
#
# --train: training alone, its device tests and steps of resnet18 and resnet50 beside PyTorch's (autocast, channels-last, eager and
# torch.compile). --quick: resnet50 in bf16 at batch 32 and 256, correctness of resnet18. --device cpu tries the script without a GPU.
# torch.compile(max-autotune) takes minutes a network and batch. It tunes while archc's results are checked, a few networks at
# a time in the order of COMPILED below (gpu_tune.py); then what is ready is timed, each alone, and the rest is given up. What
# it chooses among others' work may not be its best, and the table says so: with --compile the named ones are all that is run,
# beside archc and PyTorch's CUDA graph, and tune alone.
# Results are written as they come, so that a time limit costs only what is left; results.tar.gz in the folder has all.
set -uo pipefail
cd "$(dirname "$0")/.."
here=benches carry=target/gpu-carry out=${OUT:-target/gpu-out} device=cuda quick= train= seconds=520 compile=
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=1 seconds=210 ;;
    --train) train=1 ;;
    --carry) carry=$2 && shift ;;
    --out) out=$2 && shift ;;
    --device) device=$2 && shift ;;
    --seconds) seconds=$2 && shift ;;
    --compile) compile=$2 && shift ;;
    *) echo "gpu.sh: unknown option $1" >&2 && exit 2 ;;
    esac
    shift
done
NETS="resnet50 se_resnet50 resnet18 mobilenet_v3_large vit_b_16"
COMPILED="resnet50:256 resnet50:32 resnet50:1 se_resnet50:256 vit_b_16:32 se_resnet50:32 se_resnet50:1 vit_b_16:256
    mobilenet_v3_large:32 resnet18:32 vit_b_16:1 mobilenet_v3_large:256 resnet18:256 mobilenet_v3_large:1 resnet18:1"
mkdir -p "$out" && work=$(mktemp -d) && hold=$work/hold && mkdir "$hold"
tuner=
finish() {
    [ -n "$tuner" ] && kill "$tuner" 2>/dev/null && wait "$tuner"
    rm -rf "$work"
}
trap finish EXIT
export PYTHONUNBUFFERED=1 ARCHC_CUBIN_CACHE="$work/cubin"
archc=$carry/archc failures=0
exec > >(tee "$out/log.txt") 2>&1

left() { echo $((seconds - SECONDS)); }
pack() { tar -czf "$work/results.tar.gz" -C "$out" --exclude=results.tar.gz . && mv "$work/results.tar.gz" "$out/"; }
step() { pack && printf '\n== %s (%s s)\n' "$*" "$SECONDS"; }
# under a time limit of so many seconds, and of what is left
limited() {
    local most=$1 rest
    shift
    rest=$(left)
    [ "$rest" -lt 2 ] && return 124
    timeout -k 5 $((most < rest ? most : rest)) "$@"
}
fail() { if [ "$(left)" -lt 2 ]; then echo "no time for $*"; else failures=$((failures + 1)) && echo "FAILED: $*"; fi; }

# one network both ways on the same noise
same() {
    local net=$1 dtype=$2 batch=$3 limit=$4 options=${5:-}
    local want=$work/$net.$batch.safetensors got=$work/got.safetensors
    [ -e "$want" ] || limited 120 "$archc" run "$carry/specs/$net.arch" --device cpu --batch "$batch" --output "$want" >/dev/null ||
        { fail "$net on the CPU" && return; }
    # shellcheck disable=SC2086
    limited 60 "$archc" run "$carry/specs/$net.arch" --device "$device" --dtype "$dtype" $options --batch "$batch" --output "$got" \
        >/dev/null 2>"$work/error" || { cat "$work/error" && fail "$net $dtype on $device" && return; }
    limited 30 python3 $here/gpu_compare.py "$net $dtype $options batch $batch" "$want" "$got" "$limit" || fail "$net $dtype: other numbers"
}

bench() {
    local net=$1 dtype=$2 batch=$3 specs=${4:-$carry/specs} file
    file=$out/archc_$net.$dtype.$batch.json
    limited 40 "$archc" bench "$specs/$net.arch" --device "$device" --dtype "$dtype" --batch "$batch" --iterations 20 \
        --warm-up 0 --json >"$file" 2>"$work/error" || { cat "$work/error" && rm -f "$file" && fail "bench $net $dtype $batch"; }
    [ -e "$file" ] && python3 - "$file" "$net" <<'P'
import json, sys
one = json.load(open(sys.argv[1]))
times = one.get("device_ms") or one["latency_ms"]
print(f"archc {sys.argv[2]:18s} {one['dtype']:4s} batch {one['batch']:3d} {times['median']:18.3f} ms (min {times['min']:.3f}), host to host {one['latency_ms']['median']:.3f}")
P
}

# the same without what Hopper alone has, a part at a time
without() {
    local net=$1 dtype=$2 part
    shift 2
    for part in TMA WGMMA PDL; do
        cp "$carry/specs/$net.arch" "$work/${net}_no_${part,,}.arch"
        export "ARCHC_$part=0"
        for batch in "$@"; do bench "${net}_no_${part,,}" "$dtype" "$batch" "$work"; done
        unset "ARCHC_$part"
    done
}

profile() {
    limited 40 "$archc" bench "$carry/specs/$1.arch" --device "$device" --dtype "$2" --batch "$3" --iterations 3 --warm-up 0 --profile \
        >"$out/profile_$1.$2.$3.txt" 2>&1 || fail "profile $1 $2 $3"
}

# seconds, networks, dtypes, batches, modes
torch() {
    local most=$1 rest
    rest=$(left)
    limited "$most" python3 $here/gpu_torch.py "$out/torch.jsonl" "$2" "$3" "$4" "$5" --seconds $((most < rest ? most : rest))
}
# steps of a network that learns, by the device's clock
learn() {
    local net=$1 dtype=$2 batch=$3 file=$out/train_$1.$2.$3.json
    limited 60 "$carry/train" "$carry/specs/${net}_train.arch" noise "$batch" --device "$device" --dtype "$dtype" --device-times 20 \
        >"$work/steps" 2>"$work/error" || { cat "$work/error" && fail "training $net $dtype $batch" && return; }
    tail -1 "$work/steps" >"$file" && echo "archc $net $dtype batch $batch, a step: $(cat "$file")"
}


step "the machine"
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem --format=csv 2>/dev/null
"$archc" devices
python3 -c 'import torch; print("torch", torch.__version__)'
rm -f "$out/torch.jsonl" "$out"/archc_*.json

if [ -n "$train" ]; then
    step "learning on the device"
    rm -f "$out/torch_train.jsonl" "$out"/train_*.json
    limited 150 "$carry/tests" --test-threads 1 on_the_device_learning >"$out/tests.txt" 2>&1 || { tail -30 "$out/tests.txt" && fail "device tests"; }
    tail -3 "$out/tests.txt"
    step "steps"
    for dtype in bf16 f32; do
        for net in resnet50 resnet18; do
            for batch in 64 128; do learn "$net" "$dtype" "$batch"; done
            limited 60 python3 $here/gpu_train.py "$out/torch_train.jsonl" "$net" "$dtype" 64,128 eager
        done
    done
    limited 40 "$carry/train" "$carry/specs/resnet50_train.arch" noise 128 --device "$device" --dtype bf16 --profile >"$out/train_profile.txt" 2>&1 || fail "profile"
    sort -rn "$out/train_profile.txt" | head -25
    for net in resnet50 resnet18; do limited 120 python3 $here/gpu_train.py "$out/torch_train.jsonl" "$net" bf16 128,64 compile; done
    step "table"
    python3 $here/gpu_train.py table "$out" | tee "$out/table.txt"
    pack
    printf '\n%s failures, %s s\n' "$failures" "$SECONDS"
    exit $((failures > 0))
fi

if [ -z "$compile$quick" ] && [ "$device" != cpu ]; then
    # the checks come meanwhile
    # shellcheck disable=SC2086
    python3 $here/gpu_tune.py "$out/torch.jsonl" "$hold" $((seconds * 2 / 5)) $COMPILED >"$out/compile.txt" 2>&1 &
    tuner=$!
fi
if [ "$device" != cpu ] && [ -z "$compile" ]; then
    step "fragment layouts"
    limited 60 python3 $here/gpu_layouts.py "$carry/kernels" 3 >"$out/layouts.txt" 2>&1 || fail "fragment layouts"
    tail -25 "$out/layouts.txt"
fi

dtypes_of() { if [ "$device" = cpu ]; then echo f32; else echo "bf16 f16 f32"; fi; }
fast=$(dtypes_of) && fast=${fast%% *}
limit_of() { case $1 in bf16) echo 4e-2 ;; f16) echo 6e-3 ;; *) echo 1e-4 ;; esac; }
nets() { echo $NETS | tr ' ' ,; }

if [ -n "$compile" ]; then
    step "speed"
    for one in $compile; do
        bench "${one%:*}" "$fast" "${one#*:}"
        torch 60 "${one%:*}" "$fast" "${one#*:}" graph
    done
    step "torch.compile"
    for one in $compile; do torch 400 "${one%:*}" "$fast" "${one#*:}" compile >>"$out/compile.txt" 2>&1; done
    grep -h '^torch' "$out/compile.txt"
elif [ -n "$quick" ]; then
    step "numbers"
    for dtype in $(dtypes_of); do same resnet18 "$dtype" 2 "$(limit_of "$dtype")"; done
    for part in ARCHC_TMA ARCHC_WGMMA ARCHC_PDL; do
        export "$part=0"
        same resnet18 "$fast" 2 "$(limit_of "$fast")"
        unset "$part"
    done
    step "speed"
    for batch in 32 256 1; do bench resnet50 "$fast" "$batch"; done
    without resnet50 "$fast" 32 256 1
    for batch in 256 1; do profile resnet50 "$fast" "$batch"; done
    sed -n '/^kernel/,$p' "$out/profile_resnet50.$fast.256.txt" | head -30
    torch 60 resnet50 "$fast" 32,256 eager,graph
else
    step "every op on the device"
    if [ -x "$carry/tests" ]; then
        limited 120 "$carry/tests" --test-threads 4 on_the_device >"$out/tests.txt" 2>&1 || { tail -30 "$out/tests.txt" && fail "device tests"; }
        tail -3 "$out/tests.txt"
    fi
    step "numbers"
    for net in $NETS; do
        for dtype in $(dtypes_of); do same "$net" "$dtype" 2 "$(limit_of "$dtype")"; done
    done
    [ "$device" = cpu ] || same resnet50 f32 2 2e-3 --tf32
    if [ -n "$tuner" ]; then
        step "torch.compile"
        touch "$hold/idle"
        wait "$tuner" || fail "torch.compile"
        tuner=
        grep -h '^torch\|ready$' "$out/compile.txt"
    fi
    # the most wanted first
    for dtype in $(dtypes_of); do
        step "speed, $dtype"
        for net in $NETS; do
            for batch in 256 32 1; do bench "$net" "$dtype" "$batch"; done
        done
        torch 75 "$(nets)" "$dtype" 256,32,1 eager,graph
    done
    step "kernels"
    for batch in 256 32 1; do profile resnet50 "$fast" "$batch"; done
    for net in se_resnet50 mobilenet_v3_large vit_b_16; do profile "$net" "$fast" 256; done
    for net in se_resnet50 mobilenet_v3_large vit_b_16; do profile "$net" "$fast" 1; done
    limited 30 "$archc" bench --kernels --device "$device" --dtype "$fast" --batch 32 >"$out/kernels.txt" 2>&1 || fail "kernel benches"
    [ "$device" = cpu ] || { without resnet50 "$fast" 256 && without vit_b_16 "$fast" 256; }
fi

step "table"
python3 $here/gpu_table.py "$out" | tee "$out/table.txt"
pack
printf '\n%s failures, %s s\n' "$failures" "$SECONDS"
[ "$failures" = 0 ]
