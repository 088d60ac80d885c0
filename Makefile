# One verb for everything. `make help` lists them.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export DO_NOT_TRACK := 1
export DVC_NO_ANALYTICS := 1
# uv does not read pip's setting for a folder of wheels: hand it over where there is one.
export UV_FIND_LINKS := $(PIP_FIND_LINKS)
# Where compiled code may not be kept, every process compiles torch, MLflow and the rest anew: 9 seconds a stage.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(abspath $(BIN)):$(PATH)
INSTALLED := $(VENV)/.installed
PEERS := benchmarks/.peers-venv

.DEFAULT_GOAL := help
.PHONY: help setup demo train serve platform history test lint types audit check lock clean bench-serving bench-soak bench-monitoring bench-loop bench-warm-start bench-window bench-quality bench-variants bench-memory bench-index bench-training data-file

help: ## list the verbs
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## install everything into .venv, from the lock

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "recloop needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1; }
	@echo "installing into $(VENV) (once; a minute or two)"
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module: install your system's python3-venv package"; exit 1; }
	@$(BIN)/pip install -q --disable-pip-version-check "$$(grep '^uv==' requirements.lock)"
	@$(BIN)/uv pip install -q --python $(BIN)/python -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps -e .
	@touch $@

demo: setup ## the whole loop on MovieLens-100K, from raw events to a swapped champion (about 5 minutes)
	@$(BIN)/recloop demo

train: setup ## bring data and models up to date, and promote the winner
	@$(BIN)/recloop check
	@$(BIN)/dvc repro
	@$(BIN)/recloop promote

# IN=folder works on another project than this one, such as the demo's: make platform IN=var/demo
# `exec`, so that no shell stands between make and recloop: Ctrl-C reaches both, and a SIGTERM to make is handed on to what
# make itself started, and waited for. Nothing else is handed on: after `kill -9` of make, end recloop.
IN ?= .
IN_PROJECT := exec env RECLOOP_ROOT=$(abspath $(IN))

serve: setup ## the endpoint, following the champion, until Ctrl-C (IN=var/demo: the demo's)
	@$(IN_PROJECT) $(BIN)/recloop serve

platform: setup ## Prefect, MLflow, monitor, retrainer and endpoint together, until Ctrl-C (IN=var/demo: the demo's)
	@$(IN_PROJECT) $(BIN)/recloop platform

history: setup ## who was champion, from when to when, and why (IN=var/demo: the demo's)
	@$(IN_PROJECT) $(BIN)/recloop history

test: setup ## all tests, end-to-end ones included
	@$(BIN)/pytest -n 2

lint: setup ## style, and which module may import which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

types: setup ## types
	@$(BIN)/mypy

audit: setup ## known vulnerabilities of what is installed, where their database can be reached
	@said=$$($(BIN)/pip-audit -r requirements.lock --no-deps --disable-pip -s osv --timeout 10 --progress-spinner off 2>&1); code=$$?; \
	case "$$said" in \
	*ConnectionError*) echo "not audited: the database of vulnerabilities cannot be reached";; \
	*) echo "$$said"; exit $$code;; \
	esac

check: lint types audit test ## what CI runs

# What the benchmarks measure goes into benchmarks/results. DATA: files in the `sequences` form; for bench-quality and
# bench-variants also a MovieLens ratings.csv, with ties in time in both orders.
DATA ?=
ARGS ?=
bench-quality: setup ## how good every model is on DATA=files, `sequences` or a MovieLens ratings.csv (ARGS="--models sasrec bsarec --seeds 0 1 2")
	@$(BIN)/python -m benchmarks.quality $(if $(DATA),--data $(DATA),--table) $(ARGS)

bench-variants: setup ## what each part of the training is worth on DATA=files: SASRec with one thing changed at a time
	@$(BIN)/python -m benchmarks.quality --plan benchmarks/variants.yaml $(if $(DATA),--data $(DATA),--table) $(ARGS)

bench-memory: setup ## memory of a step and of a training, by size of the catalogue (ARGS="--data FILE": of that file's)
	@$(BIN)/python -m benchmarks.memory $(ARGS)

bench-index: setup ## retrieval by size of the catalogue, every product or sketches; DATA=file: also with vectors learnt there
	@$(BIN)/python -m benchmarks.index $(if $(DATA),--data $(DATA)) $(ARGS)

bench-training: data-file setup $(PEERS)/.installed ## speed of training on DATA=file beside RecTools and RePlay (about an hour)
	@$(BIN)/python -m benchmarks.training --data $(DATA) $(ARGS)

bench-serving: setup ## speed of the endpoint on DATA=file beside BentoML, Starlette, LitServe and Ray Serve (half an hour)
	@$(BIN)/python -m benchmarks.serving $(if $(DATA),--data $(DATA),--table) $(ARGS)

bench-monitoring: setup ## false alarms, and injected drifts that are seen: DATA=folder with MovieLens' ratings.csv and movies.csv (half an hour)
	@$(BIN)/python -m benchmarks.monitoring $(if $(DATA),--data $(DATA),--table) $(ARGS)

bench-loop: setup ## what each policy of retraining keeps and costs, on MovieLens-100K and on DATA=folder with ratings.csv and movies.csv (half an hour)
	@$(BIN)/python -m benchmarks.loop $(if $(DATA),--data $(DATA),--table) $(ARGS)

bench-warm-start: data-file setup ## what a retraining gains or loses by beginning from the champion, on DATA=ratings.csv of MovieLens (ten minutes)
	@$(BIN)/python -m benchmarks.warm_start --data $(DATA) $(ARGS)

bench-window: setup ## time and memory of the monitor on a window of ten million events (ten minutes)
	@$(BIN)/python -m benchmarks.window $(ARGS)

bench-soak: data-file setup ## ten minutes of the endpoint at half load on DATA=file, memory watched, with a picture
	@$(BIN)/python -m benchmarks.soak --data $(DATA) $(ARGS)

data-file: # before the peers' environment is installed, which takes minutes
	@test -f "$(DATA)" || { echo "say which data: make $(MAKECMDGOALS) DATA=file, with a line a user (docs/benchmarks.md)" >&2; exit 2; }

$(PEERS)/.installed: benchmarks/peers/requirements.txt
	@$(PYTHON) -m venv $(PEERS)
	@$(BIN)/uv pip install -q --python $(PEERS)/bin/python -r $<
	@touch $@

# Compiled for every platform, and without a local folder of wheels, whose torch exists nowhere else. What torch's CUDA
# build needs is left out: torch pins it exactly, and a CPU build must not bring it along.
COMPILE = env -u UV_FIND_LINKS -u PIP_FIND_LINKS $(BIN)/uv pip compile -q --universal --no-emit-index-url --no-annotate --no-header
CUDA = '^(nvidia-(cu|nccl|nv)|triton|cuda-)'
LOCK_HEADER = "\# Written by make lock from pyproject.toml. Do not edit."
lock: setup ## write the locks anew from pyproject.toml, keeping pins that still fit (UPGRADE=--upgrade: none)
	@cp requirements.lock .lock.part && $(COMPILE) $(UPGRADE) --extra dev pyproject.toml -o .lock.part > /dev/null
	@{ echo $(LOCK_HEADER); grep -vE $(CUDA) .lock.part; } > requirements.lock
	@cp requirements-serving.lock .lock.part && $(COMPILE) --extra serve -c requirements.lock pyproject.toml -o .lock.part > /dev/null
	@{ echo $(LOCK_HEADER); grep -vE $(CUDA) .lock.part; } > requirements-serving.lock
	@rm .lock.part

clean: setup ## remove what runs left behind, databases, models and DVC's cache included
	@$(BIN)/recloop clean
