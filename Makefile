# All that is needed: Python 3.11 to 3.13, make and PyPI.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint serve clean

demo: $(VENV)/demo.installed  ## caption a short clip, or VIDEO=my.mp4
	@$(BIN)/captioner caption --format text "$(or $(VIDEO),$(shell $(BIN)/python -m tests.demo_clip))"

test: $(VENV)/dev.installed  ## run the tests
	$(BIN)/python -m pytest

lint: $(VENV)/dev.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

$(VENV)/%.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV)
