# Everything runs in .venv, which `make install` fills; no other tool is needed than Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export LITELLM_LOCAL_MODEL_COST_MAP := True
# Otherwise each of some hundred processes compiles the same modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install adapters prometheus demo chaos stream-chaos ldp-agent attack drill dev test proofs check fmt bench bench-bars bench-growth bench-crowd bench-streams bench-front bench-quotas bench-shares bench-footprint simulate bench-page bench-handles outage exits wheel clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## make .venv with everything that the other targets need

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; set PYTHON=") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade -c constraints.txt pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --group test -e '.[worker,dev,otel,s3,postgres,redis,codec,serve]'
	@touch $@

demo: install ## ten calls through rate limits, overflows, quotas and killed processes (KEEP=1 leaves the UI up)
	$(BIN)/python -m tests.harness.demo $(if $(KEEP),--keep)

chaos: install ## 200 calls through a faulty provider while workers, the server and the job are killed
	$(BIN)/python -m tests.harness.chaos

stream-chaos: install ## over each place, streams are read while 40 workers are killed, and readers (15 minutes)
	$(BIN)/python -m tests.harness.stream_chaos

ldp-agent: install adapters ## an agent of ldp while its worker and the agent itself are killed
	$(BIN)/python -m tests.harness.ldp_agent

attack: install ## hostile callers and providers against three workers, and how long a bystander waits
	$(BIN)/python -m tests.harness.attack

drill: install ## an operator's night: 400 calls, a provider that fails for two minutes (4 minutes)
	$(BIN)/python -m tests.harness.drill

dev: install ## Temporal with its UI and a worker, in this terminal
	$(BIN)/python -m workers dev

# Tests wait for servers and timers too, so there are more of them at once than cores.
JOBS ?= 5
TESTS := -m pytest --reruns 1 -r R
# All proofs: `make test` need not even import them.
PROGRAMS := tests/adapters tests/examples tests/system
AT_ONCE := $(TESTS) -n $(JOBS) --dist loadscope --no-loadscope-reorder

# Debian has it; elsewhere the tests that need promtool are skipped.
prometheus: ## Prometheus from the distribution, to check the alerts
	@command -v promtool >/dev/null || DEBIAN_FRONTEND=noninteractive timeout 300 sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends prometheus' >/dev/null 2>&1 || echo "promtool cannot be installed: the alerts are not checked"

test: install ## the tests, but for the long proofs; one that fails is tried again and listed
	$(BIN)/python $(AT_ONCE) -m 'not proof' $(PROGRAMS:%=--ignore=%)
	@echo "once more in Temporal's sandbox, with each call replayed from its history at every step"
	DURABLE_LLM_TEST_SANDBOX=1 DURABLE_LLM_TEST_CACHE=0 $(BIN)/python $(AT_ONCE) -m 'workflow and not proof' tests/call

proofs: install adapters prometheus ## whole programs, adapters, examples; then outages, restarts, an upgrade in flight, the demo
	$(BIN)/python $(AT_ONCE) -m 'proof and not alone'
	$(BIN)/python $(TESTS) -m alone

check: install ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/contract/test_house_rules.py

fmt: install ## format and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Agents of others run in environments of their own, with exact versions.
ADAPTED := $(patsubst tests/adapters/requirements/%.txt,.durable-llm/adapters/%/.installed,$(wildcard tests/adapters/requirements/*.txt))

$(ADAPTED): .durable-llm/adapters/%/.installed: tests/adapters/requirements/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

adapters: ## make the environments in which the adapters are tested
	@$(MAKE) --no-print-directory -j4 $(ADAPTED)

# What is measured beside this project has environments of its own, with exact versions.
BENCHED := $(foreach name,pydantic-ai openai-agents dbos fhlmi litellm-proxy,.durable-llm/bench/$(name)/.installed)

$(BENCHED): .durable-llm/bench/%/.installed: benchmarks/contestants/requirements/%.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

bench: install $(BENCHED) ## what a call costs, beside Temporal's floor and what else one would use (15 minutes)
	$(BIN)/python -m benchmarks.bench

bench-bars: install ## hold the last `make bench` against the bars
	$(BIN)/python -m benchmarks.report

bench-growth: install ## what a call costs with more attempts and longer prompts (2 minutes)
	$(BIN)/python -m benchmarks.growth

bench-crowd: install ## 1,000 attempts in flight, and 5,000 calls submitted at once (4 minutes)
	$(BIN)/python -m benchmarks.crowd

bench-streams: install ## over each place: how soon a reader sees a token, and 200 streams at once (4 minutes)
	$(BIN)/python -m benchmarks.streams

bench-front: install .durable-llm/bench/litellm-proxy/.installed ## what the front adds to a call, beside litellm's proxy (6 minutes)
	$(BIN)/python -m benchmarks.front

bench-quotas: install .durable-llm/bench/fhlmi/.installed ## 450 calls at once at three hundred a minute, beside fhlmi and the Router (20 minutes)
	$(BIN)/python -m benchmarks.quotas

bench-shares: install ## interactive calls beside a batch of 5,000, and a budget that 200 calls meet at once (4 minutes)
	$(BIN)/python -m benchmarks.shares

bench-footprint: install ## what a call leaves on the server: events, actions, rows (2 minutes)
	$(BIN)/python -m benchmarks.footprint

simulate: install ## a million calls and an outage, with the policy's own code (10 minutes)
	$(BIN)/python -m benchmarks.simulation

bench-page: install ## put what was measured last into docs/benchmarks.md and docs/scaling.md
	$(BIN)/python -m benchmarks.page

bench-handles: install ## 2,000 results awaited in one process, and fresh calls beside them (4 minutes)
	$(BIN)/python -m benchmarks.handles

outage: install ## 50 answers arrive while the Temporal server is away for 30 s: killed, then stopped (2 minutes)
	$(BIN)/python -m benchmarks.outage

exits: install ## hundreds of programs, each run to its end: the exit status is right every time (ten minutes)
	$(BIN)/python -m benchmarks.exits

wheel: install ## build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean: ## remove .venv and what the programs leave behind
	rm -rf $(VENV) .durable-llm build dist *.egg-info
