# Two commands for a newcomer: make demo, make test. Both do all of their own set-up.

PYTHON ?=
# more than the cores of a small machine: most tests wait for something
JOBS ?= 4
# make test T="tests/unit -k due"
T ?=
# of make fuzz, for each reader
SECONDS ?= 20

export PYTHON
# Where it is set, each of a thousand certds would compile itself anew.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv/bin

.PHONY: demo test soak check bench fuzz clean

demo:
	@tools/setup.sh
	@$(VENV)/python -m certd.testing.pebble >/dev/null
	@$(VENV)/certd demo

# Without Pebble the tests that need it are skipped by name, or errors under CI=true. Each process
# has neighbours in one file, which share its servers, until one that has nothing left takes over.
test:
	@tools/setup.sh dev
	@tools/packages.sh
	-@$(VENV)/python -m certd.testing.pebble
	$(VENV)/python -m pytest -n $(JOBS) --dist worksteal $(T)

# Killed at random for so many seconds; then all is well, and nothing was issued in vain.
SOAK ?= 3600

soak:
	@tools/setup.sh dev
	@$(VENV)/python -m certd.testing.pebble >/dev/null
	CERTD_SOAK=$(SOAK) $(VENV)/python -m pytest -rP tests/faults/test_random_kills.py

check:
	@tools/setup.sh dev
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports

bench:
	@tools/setup.sh dev
	@$(VENV)/python -m certd.testing.pebble >/dev/null
	@$(VENV)/python -m bench

# What breaks something is kept as fuzz-….
fuzz:
	@tools/setup.sh dev
	$(VENV)/python -m tests.fuzz --seconds $(SECONDS)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
