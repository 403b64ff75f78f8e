#!/bin/sh
# Healthy means: every text model of CANARY_MODELS (names with commas between them) answers a text in time, a new one each time.
# Triton's own ready endpoint does not say so: it stays 200 when a backend process is dead.
set -eu
IFS=', '
for model in ${CANARY_MODELS:-sentiment}; do
    python3 -m bert_triton_client health --url http://127.0.0.1:8000 --model "$model" --timeout-s "${CANARY_TIMEOUT_S:-5}"
done
