#!/bin/sh
# Healthy means: every text model of CANARY_MODELS (names with commas between them) answers a text in time. Triton's own ready
# endpoint does not say so: it stays 200 when a backend process is dead.
set -eu
IFS=,
for model in ${CANARY_MODELS:-sentiment}; do
    # A text that nobody has asked: one that was asked is answered from a cache, whatever is dead behind it.
    text="canary $(cat /proc/sys/kernel/random/uuid)"
    python3 -m bert_triton_client classify "$text" --url http://127.0.0.1:8000 --model "$model" \
        --timeout-s "${CANARY_TIMEOUT_S:-5}"
done
