# What each target does is the text after its "##"; "make" prints them.
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Where the docker command has no compose, tools/set-up puts one there.
COMPOSE = $(shell [ -x $(BIN)/docker-compose ] && echo $(BIN)/docker-compose || echo docker compose)

.DEFAULT_GOAL := help
.NOTPARALLEL:

.PHONY: help
help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(INSTALLED): pyproject.toml
	@tools/set-up venv --editable . --group test --group lint
	@touch $@

.PHONY: venv
venv: $(INSTALLED) ## Make the virtual environment with everything in it

# Only what the command itself needs.
$(BIN)/mailstack: pyproject.toml
	@tools/set-up venv --editable .
	@touch $@

.env:
	install -m 0600 env.example $@

.PHONY: engine
engine: $(BIN)/mailstack
	@tools/set-up engine

.PHONY: up
up: .env engine ## Build and start the stack of .env (env.example, if there is none), and print the next steps
	$(BIN)/mailstack build --no-next
	$(COMPOSE) --progress quiet up -d --wait
	@echo
	@$(BIN)/mailstack status
	@echo
	@$(BIN)/mailstack first-steps

# At once, so that who may not install them asks for them once.
.PHONY: packages
packages:
	@tools/set-up packages python3-venv openssl mmdebstrap debian-archive-keyring uidmap docker-cli iproute2

.PHONY: test
test: packages $(INSTALLED) engine ## Run all tests
	@# Some tests take it from the engine, and a registry may have it.
	@docker image inspect debian:trixie-slim > /dev/null 2>&1 || docker pull --quiet debian:trixie-slim
	$(BIN)/python -m tests.lanes

.PHONY: test-quick
test-quick: $(INSTALLED) ## Run the tests that need no container engine
	@tools/set-up packages openssl
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
reference: $(INSTALLED) ## Write env.example and README's settings table from the settings
	$(BIN)/python -m mailstack.settings.reference

.PHONY: figures
figures: $(INSTALLED) engine ## Measure sizes, memory, ready and build times, against their budgets
	$(BIN)/python -m bench.appliance

SAVED = $(if $(SAVE),--save $(SAVE))

.PHONY: bench-quick
bench-quick: $(INSTALLED) engine ## Compare mailstack with other mail servers, in five minutes (bench/README.md); SAVE=FILE keeps the figures
	$(BIN)/python -m bench run --quick $(SAVED)

.PHONY: bench
bench: $(INSTALLED) engine ## The same with all loads and numbers of sessions, in half an hour
	$(BIN)/python -m bench run $(SAVED)

.PHONY: clean
clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
