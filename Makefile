# Or `original`, on the command line; each has an environment of its own.
STACK := maintained
VENV = .venv$(filter-out -maintained,-$(STACK))
PYTHON = $(or $(MMKDNA_PYTHON),$(VENV)/bin/python)
# So that a user's own MMKDNA_PYTHON needs no install of mmkdna.
export PYTHONPATH := $(CURDIR)$(if $(PYTHONPATH),:$(PYTHONPATH))
# Every process imports 5000 files; compiled once, in a third of the time.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo digits test test-slow test-deploy fuzz coverage lint \
  docs pictures gpu-report kills soak mutation

help:
	@echo "make demo       set up, train Mask R-CNN with KernelDNA on digits, show it"
	@echo "make digits     train the digits configs and their plain twins, compare them"
	@echo "make test       set up, run the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make test-deploy  exports by mmdeploy, on the original stack"
	@echo "make fuzz       2,000 generated cases of each kind; SEED=3 for other ones"
	@echo "make coverage   the tests, and the lines and branches that none of them runs"
	@echo "make lint       ruff and mypy"
	@echo "make docs       build the documentation site into site/"
	@echo "make pictures   redraw the pictures of the documentation"
	@echo "make gpu-report time all conv types on a GPU; ARGS='--data FOLDER --minutes 20'"
	@echo "make kills      kill commands 100 times, look at what is left; ARGS='--seed 1'"
	@echo "make soak       3,000 steps with resumes: does anything grow?"
	@echo "make mutation   change layers and families in 1,700 ways: do the tests see it?"
	@echo "make setup      only the set-up: .venv with the tested stack"
	@echo "STACK=original  behind any of them: OpenMMLab's own releases, in .venv-original"

setup:
	@MMKDNA_STACK='$(STACK)' python3 tools/bootstrap.py

demo: setup
	$(PYTHON) tools/train.py configs/digits/kdna_maskrcnn_r18.py --work-dir work_dirs/demo
	$(PYTHON) tools/show_run.py work_dirs/demo

# Interrupted, it goes on where it was. UperNet starts from the classifier r18.
DIGITS := r18 upernet_r18 retinanet_r18 maskrcnn_r18
digits: setup
	set -e; for name in $(DIGITS); do \
	  $(PYTHON) tools/train.py configs/digits/kdna_$$name.py --resume --work-dir work_dirs/digits/kdna_$$name; \
	  $(PYTHON) tools/train.py configs/digits/plain/$$name.py --resume --work-dir work_dirs/digits/plain_$$name; \
	done
	$(PYTHON) experiments/digits_table.py work_dirs/digits

test: setup
	$(PYTHON) -m pytest

test-slow: setup
	$(PYTHON) -m pytest -m slow

# mmdeploy asks for a protobuf and an mmengine of its own, and needs neither.
# A user's own environment is left as it is.
test-deploy: STACK := original
test-deploy: setup
	$(if $(MMKDNA_PYTHON),,$(PYTHON) -m pip install --quiet --no-deps -r requirements-deploy.txt)
	$(PYTHON) -m pytest tests/test_mmdeploy.py -m deploy

# Without a SEED they are the same cases each time.
fuzz: setup
	MMKDNA_FUZZ_SEED='$(SEED)' $(PYTHON) -m pytest -m slow tests/test_fuzz_*.py

coverage: setup
	$(PYTHON) -m coverage run -m pytest
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report --include='mmkdna/layers/*,mmkdna/families/*' --fail-under=98
	$(PYTHON) -m coverage report --fail-under=95

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

# The notice that is switched off is about a later mkdocs, not this build.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

pictures: setup
	$(PYTHON) docs/draw_family.py

# Three minutes on a quiet core; its figures are in docs/robustness.md.
kills: setup
	$(PYTHON) experiments/interruptions.py --count 100 --seed 0 $(ARGS)

soak: setup
	$(PYTHON) experiments/soak.py --steps 3000 --resumes 9 $(ARGS)

# An hour. Interrupted, it goes on; ARGS='--again' runs the survivors again, with
# other tests.
mutation: setup
	$(if $(MMKDNA_PYTHON),,$(PYTHON) -m pip install --quiet --no-deps -r requirements-mutation.txt)
	$(PYTHON) -m pytest tests/test_mutation.py -m mutation
	$(PYTHON) experiments/mutation.py $(ARGS)

# No set-up: torch, mmengine and mmcv-lite are enough, in any environment.
gpu-report: PYTHON := $(or $(MMKDNA_PYTHON),$(wildcard $(VENV)/bin/python),python3)
gpu-report:
	$(PYTHON) experiments/gpu_report.py $(ARGS)
