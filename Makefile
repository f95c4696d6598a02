# Everything works from a bare checkout with Python 3.11 or newer, pip and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := engines sessions trtune tui tuner  # compiled at once, so that no start has to

.PHONY: help install dev demo demo-real test test-real lint format bench pictures clean

help:            ## this text
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(VENV)/.made:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

$(VENV)/.base: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	$(BIN)/python -m compileall -q $(PACKAGES)
	touch $@

$(VENV)/.llamacpp: $(VENV)/.base
	$(BIN)/python -m pip install --quiet --editable '.[llamacpp]'
	touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev,llamacpp,docker,kubernetes,cluster,serve,report]'
	$(BIN)/python -m compileall -q $(PACKAGES)
	touch $@ $(VENV)/.base $(VENV)/.llamacpp

install: $(VENV)/.base   ## the program, at .venv/bin/trtune

dev: $(VENV)/.dev        ## the program with everything tests and checks need

demo: $(VENV)/.base      ## tune a simulated TensorRT-LLM server; without a terminal: in lines, and it ends by itself
	$(BIN)/trtune demo

demo-real: $(VENV)/.llamacpp  ## tune llama.cpp's own server on this CPU, on a tiny random model
	$(BIN)/python -m engines.llamacpp_server.tiny_model .cache/tiny.gguf
	$(BIN)/trtune tune examples/llamacpp.toml --headless

test: $(VENV)/.dev       ## all tests but the slow ones with real engines
	$(BIN)/python -m pytest -n auto --dist loadgroup -m "not slow"

test-real: $(VENV)/.dev  ## the slow tests: real engines, a real cluster, a real browser
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.dev       ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev      ## the benchmarks behind docs/benchmarks.md
	$(BIN)/python -m benchmarks

pictures: $(VENV)/.dev   ## the pictures in docs/, from a recorded session
	$(BIN)/python -m tui.pictures tests/data/demo-2.trtune.xz docs/pictures

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
