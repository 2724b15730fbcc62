# Each target sets itself up: a .venv in this folder, made once and renewed when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install fit test test-slow format

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("unetseg needs Python 3.11 or newer; this is %d.%d. Name one: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo 'Installing into $(VENV); PyTorch is large, so the first time takes a few minutes.'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

fit: install
	$(BIN)/python -m unetseg fit

# Tests run in a process for each core, where torch's own threads would be in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist worksteal

test: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(PYTEST)

# What loads other runtimes runs by itself: their memory and threads aren't those of the trainings.
test-slow: install
	$(PYTEST) -m slow --ignore tests/export
	$(PYTEST) -m slow tests/export

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
