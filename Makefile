# Everything runs in .venv, which the first target makes. No root, no questions; a second run installs nothing.
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo test coverage test-fast test-slow test-reliability test-outside test-pythons lint types imports unit examples notebooks strip fix bench bench-sizes bench-embedders bench-reuse bench-traps bench-outcomes bench-routing bench-importing bench-finding peers wheel-test clean

help:  ## what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

# make PYTHON=/path/to/python chooses one; otherwise the first of these that is new enough.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
			echo "$$python -m venv $(VENV)"; $$python -m venv $(VENV) && exit 0; rm -rf $(VENV); exit 1; \
		fi; \
	done; \
	echo "exp_pool needs Python 3.11 or newer: install it, or say where it is with make PYTHON=/path/to/python3.11"; exit 1

# torch goes first and pinned, or other packages fetch a build of gigabytes.
$(VENV)/.demo: pyproject.toml constraints-dev.txt | $(BIN)/python
	@echo "installing into $(VENV); the first time takes some minutes"
	$(PIP) -c constraints-dev.txt torch==2.13.0
	$(PIP) -c constraints-dev.txt -e '.[offline]'
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) -c constraints-dev.txt -e '.[dev]'
	@touch $@

$(VENV)/.peers: $(VENV)/.dev
	$(PIP) -c constraints-dev.txt -e '.[peers]'
	@touch $@

demo: $(VENV)/.demo  ## the quickstart, on the real model, a real Chroma and a real SQLite file
	$(BIN)/python examples/01_quickstart.py

test: $(VENV)/.dev  ## everything that must pass; what does not need both cores beside each other
	+@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types imports
	+@$(MAKE) --no-print-directory unit
	+@$(MAKE) --no-print-directory examples

lint: $(VENV)/.dev  ## ruff; vulture, which finds code that nothing uses
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(BIN)/vulture > $(VENV)/.vulture.log; case $$? in 0|3) ! grep -E '^(exp_pool|scorers)/' $(VENV)/.vulture.log;; *) exit 1;; esac

types: $(VENV)/.dev  ## mypy, strict
	$(BIN)/mypy

imports: $(VENV)/.dev  ## the layers
	$(BIN)/lint-imports

unit: $(VENV)/.dev  ## pytest, a file at a time on each core
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.dev  ## a minute: ruff, mypy, layers, and the tests without I/O, processes and models
	+@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint types imports
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow" \
		tests/unit tests/flow tests/contract/test_memory.py tests/contract/test_sqlite.py

coverage: $(VENV)/.dev  ## which lines of the package the tests reach; pages in .coverage-html
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist loadfile --no-loadscope-reorder
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet -d .coverage-html
	$(BIN)/coverage report

test-outside: $(VENV)/.dev  ## only what the last `make unit` skipped for want of servers or of EXP_POOL_TEST_DATA
	$(BIN)/python -m pytest --outside -n auto --dist loadfile --no-loadscope-reorder

test-pythons:  ## the quick tests on every Python that is promised and here, without torch; PYTHONS="3.12 /path/to/python" names some
	bash .ci/pythons $(PYTHONS)

test-slow: $(VENV)/.dev  ## what takes minutes: a million calls against the key encoding, 20,000 questions against the bound
	EXP_POOL_FULL=1 $(BIN)/python -m pytest tests/integration/core/test_a_million_calls.py \
		tests/integration/reuse/test_the_bound_holds.py

# What has full counts, but the calls of test-slow.
RELIABILITY := tests/reliability tests/guarantees/test_06_nothing_acknowledged_is_lost.py \
	tests/guarantees/test_09_no_namespace_leak.py tests/integration/calls/test_across_processes.py \
	tests/integration/stores/test_hostile_stores.py tests/integration/search/test_hostile_indexes.py tests/integration/search/test_onnx_embedder.py

test-reliability: $(VENV)/.dev  ## kills, damage, full disks, servers that die, hostile texts: the full counts
	EXP_POOL_FULL=1 $(BIN)/python -m pytest $(RELIABILITY) --durations=15

examples: $(VENV)/.dev  ## every example, as a user would run it
	@ls examples/*.py | xargs -P 2 -n 1 sh -c 'echo "== $$1"; log=$(VENV)/.$$(basename $$1).log; \
		$(BIN)/python $$1 > $$log 2>&1 || { cat $$log; exit 255; }' example

notebooks: $(VENV)/.dev  ## every notebook in a kernel, as a user would run it; part of `make unit`
	$(BIN)/python -m pytest tests/integration/documents/test_notebooks.py

strip: $(VENV)/.dev  ## take the outputs out of the notebooks, before they are committed
	$(BIN)/python -m jupyter nbconvert --log-level ERROR --clear-output --inplace notebooks/*.ipynb

fix: $(VENV)/.dev  ## format, and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## times, as ratios to diskcache and raw Chroma in the same run
	$(BIN)/python benchmarks/hot_paths.py

bench-sizes: $(VENV)/.dev  ## what size costs: writing, opening, disk, memory, scan and index
	$(BIN)/python benchmarks/sizes.py

bench-embedders: $(VENV)/.dev  ## the ONNX embedder beside the original on torch
	$(BIN)/python benchmarks/embedders.py

bench-reuse: $(VENV)/.dev  ## judges on 20,000 questions in 20 orders: an hour
	$(BIN)/python benchmarks/reuse.py --adversarial

bench-traps: $(VENV)/.peers  ## trap questions by other people: how many a threshold serves and how many of the traps
	$(BIN)/python benchmarks/traps.py

bench-outcomes: $(VENV)/.dev  ## lifts and quarantine against simulated truth: some minutes
	$(BIN)/python benchmarks/outcomes.py

bench-importing: $(VENV)/.dev  ## importing and exporting 100,000 lines: seconds, and memory that stays flat
	$(BIN)/python benchmarks/importing.py

bench-routing: $(VENV)/.dev  ## 5,000 requests over endpoints that fail; slow ones, hedged and not
	$(BIN)/python benchmarks/routing.py

bench-finding: $(VENV)/.dev  ## near-duplicates among 100,000: seconds, and what is missed
	$(BIN)/python benchmarks/finding.py

peers: $(VENV)/.peers  ## what other caches get wrong, by the same cases as exp_pool
	$(BIN)/python benchmarks/correctness_vs_peers.py

wheel-test: $(VENV)/.dev  ## the wheel without the source tree, in an environment of its own
	rm -rf dist $(VENV)/wheel
	$(BIN)/python -m build --quiet --wheel
	$(BIN)/python -m venv $(VENV)/wheel
	$(VENV)/wheel/bin/python -m pip --disable-pip-version-check install --quiet -c constraints-dev.txt torch==2.13.0
	$(VENV)/wheel/bin/python -m pip --disable-pip-version-check install --quiet -c constraints-dev.txt "$$(ls dist/*.whl)[offline]"
	cp examples/01_quickstart.py $(VENV)/wheel/
	cd $(VENV)/wheel && ./bin/python 01_quickstart.py pool
	cd $(VENV)/wheel && ./bin/python -c "from exp_pool.reuse.guard import guard; assert guard('is it open', 'is it closed')"  # its word lists
	rm -rf $(VENV)/wheel

clean:  ## remove what was built
	rm -rf $(VENV) .pythons build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
