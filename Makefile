# Everything runs in .venv, which `make install` fills; no other tool is needed than Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export LITELLM_LOCAL_MODEL_COST_MAP := True

.DEFAULT_GOAL := help
.PHONY: help install demo dev test check fmt bench-overhead exits wheel clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## make .venv with everything that the other targets need

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group test -e '.[worker,dev,otel]'
	@touch $@

demo: install ## ten calls through rate limits, overflows, quotas and killed processes (KEEP=1 leaves the UI up)
	$(BIN)/python -m examples.demo $(if $(KEEP),--keep)

dev: install ## Temporal with its UI and a worker, in this terminal
	$(BIN)/python -m workers dev

# Once more in Temporal's sandbox, and with each call replayed from its history at every step.
WORKFLOW_TESTS := tests/test_llm_call.py tests/test_dispatcher.py tests/test_replay.py

test: install ## all tests
	$(BIN)/python -m pytest -n auto --dist loadscope
	DURABLE_LLM_TEST_SANDBOX=1 DURABLE_LLM_TEST_CACHE=0 $(BIN)/python -m pytest -n auto --dist loadscope $(WORKFLOW_TESTS)

check: install ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house_rules.py

fmt: install ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-overhead: install ## time and rate of a call over the floor (a no-op workflow with a no-op activity)
	$(BIN)/python -m benchmarks.overhead

exits: install ## run every program hundreds of times and check how it leaves (five minutes)
	$(BIN)/python -m benchmarks.exits_programs

wheel: install ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## remove .venv and what the programs leave behind
	rm -rf $(VENV) .durable-llm build dist *.egg-info
