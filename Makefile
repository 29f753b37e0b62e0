# Every target sets up what it needs first; .ci/setup says in a line each what it does, and is
# silent when there is nothing to do. Pass arguments on with ARGS="…".

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup run image test lint simulate bench bench-disk chaos crashes fuzz clean

help:
	@echo 'make run     start gpuledger here, Docker and all    ARGS="--addr 127.0.0.1:8080"'
	@echo 'make image   make the image "busybox" of the README here, where no registry is in reach'
	@echo 'make test    lint, type check, every test            ARGS="-k volumes"'
	@echo 'make lint    lint and type check only'
	@echo 'make simulate  thousands of histories full of faults  SEEDS=20000, or SEED=17 for one'
	@echo 'make bench   measure                                 ARGS="--help"'
	@echo 'make bench-disk  measure system disks, as root       ARGS="--scale 0.1"'
	@echo 'make chaos   kill everything under load, as root     ARGS="--kills 100 --seed 7"'
	@echo 'make crashes  die at each step of some commands, as root  ARGS="--task patch"'
	@echo 'make fuzz    send the API what it never saw          ARGS="--max-examples 1000"'
	@echo 'make setup   only make .venv, with what run and test need'
	@echo 'make clean   remove .venv, caches and builds (no data)'

setup:
	@.ci/setup test

# exec: Ctrl-C and signals reach the service itself, and its exit status is the recipe's.
run:
	@.ci/setup run && exec .venv/bin/gpuledger serve $(ARGS)

image:
	@.ci/setup run && .ci/setup image && exec .venv/bin/python -m tests.kit.busybox

# loadfile: the tests of one file share a worker, and with it that worker's Docker engine.
test: lint
	@exec .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup
	@.venv/bin/ruff check
	@.venv/bin/mypy

simulate: setup
	@exec .venv/bin/python -m tests.simulation $(if $(SEED),--seed $(SEED)) $(if $(SEEDS),--seeds $(SEEDS)) $(ARGS)

bench: setup
	@exec .venv/bin/python -m tests.bench $(ARGS)

# It needs mkfs.xfs (xfsprogs) too.
bench-disk: setup
	@exec .venv/bin/python -m tests.bench.disk $(ARGS)

chaos: setup
	@exec .venv/bin/python -m tests.chaos $(ARGS)

crashes: setup
	@exec .venv/bin/python -m tests.crashes $(ARGS)

# Every option of `st run` of schemathesis works; without any it takes some minutes.
fuzz: setup
	@exec .venv/bin/python -m tests.fuzz $(ARGS)

clean:
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
