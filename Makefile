# Two commands a newcomer needs: `make bench` and `make test`. Each sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
MODELS := .tinyhil/models

.PHONY: bench test setup setup-test check clean

bench: setup
	@$(BIN)/tinyhil zoo $(MODELS)
	@$(BIN)/pytest -q --board=stm32f746 $(MODELS)

test: setup-test check
	$(BIN)/pytest -n 2

check:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup:
	@$(PYTHON) harness/bootstrap.py --for bench

setup-test:
	@$(PYTHON) harness/bootstrap.py --for test

clean:
	rm -rf .tinyhil .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis build
