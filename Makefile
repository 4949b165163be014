# make train      install and train LeNet-5 on the embedded digits
# make test       the fast tests, 10 to 13 minutes on 2 cores
# make docs       the documentation, into docs/_build/html/index.html
# make tutorials  run the tutorials and write their outputs into them
# make gallery    write the gallery's pages and pictures again, after a change of reports (needs Chromium and scikit-image)
# make test-all   those, the slow ones, and the deepest networks' gradients

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

# pip's output is hundreds of lines: of these the names of the packages it fetches, as it comes to them.
define install
@echo "installing into $(VENV) (some minutes the first time):"
@rm -f $(VENV)/failed
@{ $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '$(1)' || touch $(VENV)/failed; } | { \
	count=0; while read -r verb name rest; do \
		case "$$verb" in \
		Collecting) printf ' %s' "$${name%%[<>=!~;[(]*}"; count=$$((count + 1)); [ $$((count % 6)) -gt 0 ] || echo;; \
		Installing) [ "$$name" != collected ] || { set -- $$rest; printf '\ninstalling %s packages\n' $$(($$# - 1)); };; \
		esac; \
	done; }
@test ! -e $(VENV)/failed
@touch $@
endef

.PHONY: train test test-all lint docs tutorials gallery clean

train: $(VENV)/installed
	$(BIN)/cnnjax train --config configs/quickstart.py

test: $(VENV)/installed-tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not exhaustive"

test-all: $(VENV)/installed-tests
	$(BIN)/python -m pytest

lint: $(VENV)/installed-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx -q -W --keep-going -n -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "the documentation: docs/_build/html/index.html"

tutorials: $(VENV)/installed-tests
	$(BIN)/python docs/run_tutorials.py

gallery: $(VENV)/installed-tests
	$(BIN)/python -m docs.gallery_pictures

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cnnjax needs Python 3.11 or newer; choose one with: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(call install,.)

$(VENV)/installed-tests: $(VENV)/installed
	$(call install,.[test])

$(VENV)/installed-docs: $(VENV)/installed
	$(call install,.[docs])

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build
