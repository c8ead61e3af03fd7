# What each target does is the text after its "##"; "make" prints them.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(INSTALLED): pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable . --group test --group lint
	touch $@

.PHONY: venv
venv: $(INSTALLED) ## Make the virtual environment with everything in it

# Only what the command itself needs.
$(BIN)/mailstack: pyproject.toml
	python3 -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

.env:
	install -m 0600 env.example $@

.PHONY: up
up: $(BIN)/mailstack .env ## Build and start the stack of .env (env.example, if there is none), and say what comes next
	@docker compose version > /dev/null || { echo 'docker compose is missing: install its plugin, 2.24 or newer' >&2; exit 1; }
	$(BIN)/mailstack build --no-next
	docker compose --progress quiet up -d --wait
	@echo
	@$(BIN)/mailstack status
	@echo
	@$(BIN)/mailstack first-steps

.PHONY: test
test: $(INSTALLED) ## Run all tests; those that need a container engine skip without one
	$(BIN)/python -m tests.lanes

.PHONY: test-quick
test-quick: $(INSTALLED) ## Run the tests that need no container engine
	$(BIN)/pytest tests/unit tests/golden tests/images/test_lint.py

.PHONY: lint
lint: $(INSTALLED) ## Check style, types and import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: reference
reference: $(INSTALLED) ## Write env.example and README's settings table anew from the settings
	$(BIN)/python -m mailstack.reference

.PHONY: figures
figures: $(INSTALLED) ## Measure sizes, memory, ready and build times, against their budgets
	$(BIN)/python -m bench.appliance

SAVED = $(if $(SAVE),--save $(SAVE))

.PHONY: bench-quick
bench-quick: $(INSTALLED) ## Measure mailstack beside other set-ups, in five minutes (bench/README.md); SAVE=FILE keeps the figures
	$(BIN)/python -m bench run --quick $(SAVED)

.PHONY: bench
bench: $(INSTALLED) ## The same with all loads and numbers of sessions, in half an hour
	$(BIN)/python -m bench run $(SAVED)

.PHONY: clean
clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
