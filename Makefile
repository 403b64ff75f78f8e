# Everything a person or CI does with this repository. `make help` lists it.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
export HF_HUB_OFFLINE ?= 1
# Packages are compiled as they are imported (--no-compile): what is compiled must be kept.
unexport PYTHONDONTWRITEBYTECODE

DEMO := build/demo
DEMO_NAME := sentiment
# The demo's configs are committed, so what depends on the machine is fixed here.
DEMO_EXPORT := --model $(DEMO)/checkpoint --task text-classification --name $(DEMO_NAME) --precision fp32 fp16 int8 \
	--calibration-data $(DEMO)/validation.csv --eval-data $(DEMO)/test.csv --intra-op-threads 1 --engine openvino --serve-precision int8

help:  ## this list
	@awk -F ':.*##' '/^[a-z-]+:.*##/ { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: repository  ## set up, build the demo model, export it, start Triton, ask it, keep serving (Ctrl-C ends it)
	@echo "[4/4] Starting Triton" >&2
	@$(BIN)/python -m demo serve

demo: repository  ## what `run` does, but stop after the answers
	@echo "[4/4] Starting Triton" >&2
	@$(BIN)/python -m demo serve --stop-after-answers

setup: $(VENV)/.installed-all  ## the virtual environment in .venv, with load tests, tests and lint

repository: model_repository/$(DEMO_NAME)/1/manifest.json  ## the demo model, exported into model_repository/

test: repository $(VENV)/.installed-all debian  ## every test (TESTS=tests/unit for a part)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(TESTS)

lint: $(VENV)/.installed-all  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

tables: repository $(VENV)/.installed-all  ## load tests of the demo model: tables T1 to T5 and plots (MONTHLY_PRICE=200 for the cost)
	@$(BIN)/python -m demo tables --readme README.md $(if $(MONTHLY_PRICE),--monthly-price $(MONTHLY_PRICE))

bench-agreement: repository $(VENV)/.installed-all  ## loadtest against NVIDIA's perf_analyzer: same server, same load, in turn
	@$(BIN)/python -m bench.agreement

bench-generator: $(VENV)/.installed-all  ## what the load generator itself costs: added latency, largest rate
	@$(BIN)/python -m bench.generator_cost

bench-overhead: repository  ## what Triton adds to the model alone: BERT-base shapes, 1 and 16 clients
	@$(BIN)/python -m bench.overhead

bench-queue-policy: repository  ## how many requests a queue policy makes wait 500 ms: with and without, 1 and 16 clients
	@$(BIN)/python -m bench.queue_policy

bench: repository  ## the same checkpoint and texts by what people run today and by us, in turn (BENCH="--rounds 1" for flags)
	@$(BIN)/python -m bench.compare $(BENCH)

bench-packing: repository  ## padded and packed graphs in process: mixed lengths, equal lengths, one text
	@$(BIN)/python -m bench.packing

bench-settings: repository  ## engines, threads, instances, token budgets: alone and beside a noisy neighbour
	@$(BIN)/python -m bench.settings $(BENCH)

bench-stages: repository  ## where the time of a request goes, in microseconds a stage; answers from the cache
	@$(BIN)/python -m bench.stages

bench-gateway: repository debian  ## what the gateway adds: latency, CPU, rate; HTTP and gRPC, 1 and 16 clients
	@$(BIN)/python -m bench.gateway $(BENCH)

bench-memory: repository  ## memory of the server over 10,000 random batches
	@$(BIN)/python -m bench.memory

drill: repository  ## overload, failures and a change of version under load (DRILL=soak for 30 minutes at 80 %)
	@$(BIN)/python -m bench.drill $(DRILL)

clean:  ## remove what was built: build/ and the exported versions (the virtual environment stays)
	rm -rf build model_repository/*/[0-9]*

# Some tests run what Debian packages: a browser, the gateway's nginx, Prometheus, docker. What is missing is installed, if
# this is root's Debian, and no service of it is started; otherwise those tests skip and say what they miss.
DEBIAN := chromium nginx libnginx-mod-http-js mtail prometheus openssl docker.io docker-compose mmdebstrap iptables

debian:
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0; \
	missing=$$(for name in $(DEBIAN); do dpkg -s $$name >/dev/null 2>&1 || echo $$name; done); \
	for name in google-chrome chromium-browser; do command -v $$name >/dev/null && missing=$$(echo "$$missing" | grep -vx chromium); done; \
	[ -n "$$missing" ] || exit 0; \
	echo "Installing for tests:" $$missing >&2; \
	policy=/usr/sbin/policy-rc.d; \
	[ -e $$policy ] || { printf '#!/bin/sh\nexit 101\n' > $$policy && chmod +x $$policy && trap "rm -f $$policy" EXIT; }; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null || true

.PHONY: help run demo setup repository test lint tables debian drill bench bench-agreement bench-gateway bench-generator bench-memory bench-overhead \
	bench-packing bench-queue-policy bench-settings bench-stages clean

# constraints.txt is the whole list, so nothing is left to resolve, and two pips share it: a third of the time.
INSTALL := xargs -P 2 -n 45 $(PIP_INSTALL) --no-deps

$(VENV)/.installed: constraints.txt client/pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 13) else f"Python 3.11 or 3.12 is needed, found {v[0]}.{v[1]}. Name another: make PYTHON=python3.11")'
	@echo "[1/4] Installing packages into $(VENV) (a minute or two, the first time)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP_INSTALL) -c constraints.txt --upgrade pip setuptools
	@sed '/^# ---/,$$d' constraints.txt | grep -v '^#' | $(INSTALL)
	@PYTHONWARNINGS=ignore $(PIP_INSTALL) --no-deps --no-build-isolation -e ./client
	@touch $@

$(VENV)/.installed-all: $(VENV)/.installed
	@echo "Installing packages for load tests, tests and lint into $(VENV)" >&2
	@sed '1,/^# ---/d' constraints.txt | $(INSTALL)
	@touch $@

# Order-only: a version that is there is never built again. `make clean` first to start over.
$(DEMO)/checkpoint/config.json: | $(VENV)/.installed
	@echo "[2/4] Building the demo model" >&2
	@$(BIN)/python -m demo build --output $(DEMO)

model_repository/$(DEMO_NAME)/1/manifest.json: | $(DEMO)/checkpoint/config.json
	@echo "[3/4] Exporting it to ONNX and checking it against the checkpoint" >&2
	@$(BIN)/python -m export $(DEMO_EXPORT) --output model_repository
