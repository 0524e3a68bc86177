# make demo   restart the example fleet against the built-in simulator, over real HTTP
# make test   every check: format, lint, types, import contracts, tests
# make coverage   the tests in one process, and which lines they reach
# make soak   the long campaigns of random kills and fleets
# make bench  the benchmarks, each against a baseline in the same run

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Stories mostly wait, so one worker more than there are cores keeps these busy.
WORKERS ?= 3
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test coverage soak bench format clean

# What a run needs, pinned; enough for the demo.
$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --constraint constraints.txt pip
	$(PIP) --constraint constraints.txt --editable .
	@touch $@

# What the checks need besides.
$(VENV)/.dev: $(VENV)/.run
	$(PIP) --constraint constraints.txt --group dev
	@touch $@

demo: $(VENV)/.run
	@mkdir -p demo
	$(BIN)/orchestrator restart config/fleet.example.csv --simulate --scenario config/demo-scenario.toml \
	    --config config/demo.toml --journal demo/journal.db --report demo/report.json --yes; \
	code=$$?; test $$code -le 1 || exit $$code
	@echo; echo "The report is demo/report.json; its counts:"
	@$(BIN)/python -c "import json; print(json.load(open('demo/report.json'))['counts'])"

test: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

coverage: $(VENV)/.dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

soak: $(VENV)/.dev
	$(BIN)/python -m pytest -m soak --timeout 3600

bench: $(VENV)/.dev
	$(BIN)/python -m tests.benchmarks.spine
	$(BIN)/python -m tests.benchmarks.makespan

format: $(VENV)/.dev
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
