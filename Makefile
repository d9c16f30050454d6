# All that is needed: Python 3.11 to 3.13, make and PyPI.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
VIDEO ?= $(VENV)/demo.mp4

.PHONY: demo serve test lint screenshots clean

demo: $(VENV)/demo.installed $(if $(filter $(VENV)/demo.mp4,$(VIDEO)),$(VENV)/demo.mp4)
	$(BIN)/captioner caption --format text "$(VIDEO)"

serve: $(VENV)/demo.installed
	$(BIN)/captioner serve

test: $(VENV)/dev.installed
	$(BIN)/python -m pytest

lint: $(VENV)/dev.installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

# Needs chromium and chromium-driver (apt-get install).
screenshots: $(VENV)/dev.installed
	$(BIN)/python -m tests.web.screenshots screenshots

$(VENV)/demo.mp4: $(VENV)/demo.installed
	$(BIN)/python -m captioner.demo $@

$(VENV)/%.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV)
