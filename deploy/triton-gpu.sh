#!/bin/sh
# What runs in the image of deploy/Dockerfile.gpu: NVIDIA's tritonserver on /models with the configs of gpu, and around it what
# `python -m server` does for pip's Triton: model files held to their manifests (TRITON_VERIFY=off: not), larger stacks, restricted
# APIs behind a key that nobody knows, and an end with status 1 when a backend process has died, which Triton itself does not
# notice; the container's restart policy starts it again. Further flags go to tritonserver.
set -eu
models=${TRITON_MODEL_REPOSITORY:-/models}
apis=${TRITON_RESTRICTED_APIS:-model-repository,shared-memory,trace,logging}

if [ "${TRITON_VERIFY:-on}" != off ]; then
    # In two steps: a pipe would hide that the first one failed.
    sums=$(python3 - "$models" <<'PYTHON'
import json, pathlib, sys
versions = sorted(pathlib.Path(sys.argv[1]).glob("*/[1-9]*"))
if not versions:
    sys.exit(f"triton-gpu.sh: {sys.argv[1]} holds no version of a model; export one, or mount the folder that has them")
for version in versions:
    manifest = version / "manifest.json"
    if not manifest.is_file():
        sys.exit(f"triton-gpu.sh: {manifest} is missing; export the model again, or set TRITON_VERIFY=off")
    for name, digest in json.loads(manifest.read_text())["files"].items():
        print(f"{digest}  {version / name}")
PYTHON
    )
    printf '%s\n' "$sums" | sha256sum --check --quiet --strict - || {
        echo "triton-gpu.sh: a file was changed since it was exported (its name is above); restore it or export again" >&2
        exit 1
    }
fi

# As far as the hard limits let it: a connection is a file, and deep JSON ends a Triton whose threads have small stacks.
raise() { ulimit -S "$1" "$2" 2>/dev/null || ulimit -S "$1" "$(ulimit -H "$1")"; }
raise -n 65536
raise -s 262144

key=$(cat /proc/sys/kernel/random/uuid)
tritonserver --model-repository="$models" --model-config-name=gpu --exit-timeout-secs=10 \
    --http-restricted-api="$apis:triton-grpc-protocol-admin-key=$key" --grpc-restricted-protocol="$apis:admin-key=$key" "$@" &
triton=$!
trap 'kill -TERM "$triton" 2>/dev/null' TERM INT HUP

sightings=0  # in a row: a process that Triton ends itself is a zombie for a moment, too
while kill -0 "$triton" 2>/dev/null; do
    if cat /proc/[0-9]*/stat 2>/dev/null | grep -q "^[0-9]* (triton_python_b) Z $triton "; then
        sightings=$((sightings + 1))
    else
        sightings=0
    fi
    if [ $sightings -eq 3 ]; then
        echo "triton-gpu.sh: a backend process of Triton died; ending, to be started again" >&2
        kill -KILL "$triton"
        exit 1
    fi
    sleep 0.5 &
    wait $! || true  # a signal ends the wait, not the sleep
done
wait "$triton"
