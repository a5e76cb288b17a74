# Every target is short; what needs thought is in tools/. `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help setup up down status test lint fmt proto unit contract integration system chaos soak bench fuzz gpu jaeger locks env-example
BIN := .venv/bin
PYTEST := $(BIN)/pytest -q
export PYTHON

help:  ## This list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup:  ## Check the machine, make .venv
	@tools/setup.sh

up: setup  ## From nothing to live predictions, with the example
	@$(BIN)/python -m deploy.local up --example

down:  ## Stop everything; data is kept
	@if [ -x $(BIN)/python ]; then $(BIN)/python -m deploy.local down; else echo "nothing was ever set up here"; fi

status: setup  ## Processes, lag, models
	@$(BIN)/python -m deploy.local status

test: setup  ## Everything the project promises
	@tools/test.sh

lint: setup  ## ruff, mypy, import rules, sizes, proto
	@$(BIN)/ruff check .
	@$(BIN)/mypy lepton lepton_ai services deploy tools examples tests
	@$(BIN)/lint-imports
	@$(BIN)/python -m tools.budget
	@tools/buf.sh lint && tools/buf.sh breaking

fmt: setup  ## Sort imports and apply ruff's safe fixes
	@$(BIN)/ruff check --fix .

proto: setup  ## Generate lepton/contracts/pb and docs/asyncapi.yaml anew
	@tools/proto.sh && $(BIN)/python -m tools.asyncapi

unit: setup  ## Seconds; needs nothing running
	@$(PYTEST) tests/unit tests/property

contract: setup  ## What crosses a border; real Kafka and database
	@$(PYTEST) tests/contract

integration: setup  ## One real process each, real Kafka and database
	@$(PYTEST) tests/integration

system: setup  ## The whole stack
	@$(PYTEST) tests/system

chaos: setup  ## Processes killed and frozen, effects counted; then the matrix of faults, into docs/reliability
	@$(PYTEST) tests/chaos
	@tools/chaos.sh matrix

soak: setup  ## Two hours without a fault: whatever is done then is a false alarm; into docs/reliability
	@tools/chaos.sh soak

bench: setup  ## Speed and memory, peers beside
	@$(BIN)/python -m tests.bench

fuzz: setup  ## Search for bytes that break a decoder; 30 s each, FUZZ="event_arrow --seconds 600" for more
	@tools/fuzz.sh $(FUZZ)
	@tools/wirecheck.sh 10

gpu: setup  ## What needs a GPU; skipped with a reason where there is none
	@$(PYTEST) -m gpu tests/gpu

jaeger: setup  ## Build Jaeger for the local stack, say how to run it
	@$(BIN)/python -m deploy.local jaeger

locks: setup  ## Make every lock anew; UPGRADE=--upgrade takes newer versions
	@tools/locks.sh $(UPGRADE)

env-example: setup  ## Write .env.example from the Settings classes
	@$(BIN)/python -m tools.envexample
