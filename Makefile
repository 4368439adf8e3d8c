# `make help` lists the targets. They use the active environment; PYTHON=... chooses another interpreter.
PYTHON ?= python
CPP = $(shell find csrc fuzz -name "*.cpp" -o -name "*.hpp")

.DEFAULT_GOAL := help
.PHONY: help install check lint format types test slow demo docs serve links clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

install: ## editable install with everything that development needs
	$(PYTHON) -m pip install -e ".[dev]"

check: lint types test ## all that CI asks: style, types, tests

lint: ## formatting and lint rules, changing nothing
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	@clang-format --dry-run -Werror $(CPP)

format: ## apply formatting and the safe fixes
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .
	@clang-format -i $(CPP)

types: ## static types
	$(PYTHON) -m mypy

test: ## the tests that need no GPU and little time
	$(PYTHON) -m pytest -n 2 --dist loadfile

slow: ## the long tests too; some need Kodak (FASTLIC_KODAK)
	$(PYTHON) -m pytest -m "not gpu"

demo: ## compress and decompress the shipped photo
	$(PYTHON) -m fastlic demo

docs: ## the site, in build/site; needs the extra docs
	$(PYTHON) -m mkdocs build --strict

serve: ## the site at http://localhost:8000, built anew as pages change
	$(PYTHON) -m mkdocs serve

links: ## ask each address that the pages link to, over the network
	$(PYTHON) docs/tools/links.py docs README.md CONTRIBUTING.md

clean: ## remove what builds and tools leave behind
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache fastlic/_native*.so
