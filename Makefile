# `make` lists the targets. CONFIG=path chooses the config, PORT=... and its kin the ports.

CONFIG ?= setup_config.json
PYTHON ?= $(shell command -v python3.11 || echo python3)
PORT ?= 8080
MANAGEMENT_PORT ?= 8081
METRICS_PORT ?= 8082
GRPC_INFERENCE_PORT ?= 7070
GRPC_MANAGEMENT_PORT ?= 7071
WORKERS ?=
TEXT ?=
NAMES ?=
BENCH ?=

PY := .venv/bin/python
RUN := $(PY) -m torchscript_bundle
ARTIFACT := Transformer_model
# What `status` exits with where nothing is served; a server that hangs is told of, not restarted.
NOT_RUNNING := 3
START := $(RUN) start --config $(CONFIG) $(if $(WORKERS),--workers $(WORKERS)) \
	--inference-port $(PORT) --management-port $(MANAGEMENT_PORT) --metrics-port $(METRICS_PORT) \
	--grpc-inference-port $(GRPC_INFERENCE_PORT) --grpc-management-port $(GRPC_MANAGEMENT_PORT)

# What an artifact depends on: its config, the model's files where they are local, labels and
# samples (a folder counts as changed when a file in it comes or goes), our own code.
read = $(shell sed -n 's/.*"$(1)" *: *"\([^"]*\)".*/\1/p' $(CONFIG) 2>/dev/null)
HERE := $(dir $(CONFIG))
MODEL := $(call read,model_name)
DEMO_MODEL := demo/model/model.safetensors
MODEL_FILES := $(wildcard $(HERE)$(MODEL)/*)
ifeq ($(abspath $(HERE)$(MODEL)),$(abspath demo/model))
MODEL_FILES := $(DEMO_MODEL)
endif
CALIBRATION := $(wildcard $(addprefix $(HERE),$(call read,calibration_file)))
SAMPLES := $(wildcard $(addprefix $(HERE),$(call read,artifacts_dir) *_artifacts))
SAMPLE_FILES := $(SAMPLES) $(wildcard $(addsuffix /*,$(SAMPLES)))
# Made things that someone removed are made again.
ARCHIVE := $(shell cat .build/archive 2>/dev/null)
MODEL_GONE := $(if $(wildcard $(ARTIFACT)/bundle.json),,FORCE)
ARCHIVE_GONE := $(if $(wildcard $(ARCHIVE)),,FORCE)
VENV_GONE := $(if $(wildcard $(PY)),,FORCE)
EXPORT_CODE := download_Transformer_models.py torchscript_bundle/serving/artifact.py \
	$(shell find torchscript_bundle/export torchscript_bundle/jit -name '*.py')
SERVING_CODE := Transformer_handler_generalized.py $(shell find torchscript_bundle/serving -name '*.py')

.PHONY: help setup model archive serve predict status token stop proof demo test lint architectures bench bench-generation \
	profile clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: .build/setup ## create .venv and install everything, Java included

model: .build/model ## config -> traced, proven artifact in Transformer_model/

archive: .build/archive ## artifact -> model_store/<name>.mar

serve: archive ## start TorchServe with the archive; return when it has answered
	@$(START) --restart

predict: setup ## send TEXT="..." (default: the samples); start the server if need be
	@said=$$($(RUN) status 2>&1); case $$? in \
	0) ;; $(NOT_RUNNING)) $(MAKE) --no-print-directory serve;; *) echo "$$said" >&2; exit 1;; esac
	@$(RUN) predict --config $(CONFIG) $(if $(TEXT),-- "$$TEXT")
# As typed: a dollar sign in it is not make's.
override TEXT := $(value TEXT)
export TEXT

status: setup ## ask the server for an answer; say where it listens, or what is wrong
	@$(RUN) status

token: setup ## print the key that clients send (Authorization: Bearer ...)
	@$(RUN) status >/dev/null 2>&1; [ $$? -ne $(NOT_RUNNING) ] || $(MAKE) --no-print-directory serve >&2
	@$(RUN) token

stop: setup ## stop TorchServe
	@$(RUN) stop

proof: .build/model ## print what was compared when the model was exported
	@$(RUN) proof --artifact $(ARTIFACT)

demo: archive ## all of it: model, archive, server, three answers, stop
	@$(START)
	@$(RUN) predict --config $(CONFIG); status=$$?; $(RUN) stop; exit $$status

test: .build/setup .build/setup-serve $(DEMO_MODEL) ## run the fast tests (pytest --slow runs all)
	$(PY) -m pytest --numprocesses 2 --dist loadgroup --durations 20 $(PYTEST)

lint: .build/setup ## ruff and mypy --strict
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

architectures: .build/setup ## every text architecture through the exporter; writes docs/architectures.md
	$(PY) -m architectures $(NAMES)

bench: .build/setup .build/setup-bench $(DEMO_MODEL) ## measure against the alternatives, in one run (BENCH=--quick)
	$(PY) -m benchmarks $(BENCH)

bench-generation: .build/setup ## the same for models that write
	$(PY) benchmarks/generation.py

profile: .build/setup .build/setup-bench $(DEMO_MODEL) ## where a request's time goes
	$(PY) -m benchmarks --only stages $(BENCH)

clean: ## stop the server and remove what was made, the environments too
	@if [ -x $(PY) ]; then $(RUN) stop || true; fi
	rm -rf .venv .venv-serve .venv-bench benchmarks/.cache .build .server logs demo/model $(ARTIFACT) model_store/*.mar \
		examples/cpp/logits examples/cpp/generate
	find examples/grpc -name '*_pb2*.py' -delete

# $(call install,FOLDER,LOCK) makes an environment of exactly what a lock names. torch brings its own
# choice of CUDA libraries, so it alone is resolved.
define install
$(PYTHON) -m venv $(1)
$(1)/bin/python -m pip install --disable-pip-version-check -c $(2) torch
$(1)/bin/python -m pip install --disable-pip-version-check --no-deps -r $(2)
endef

.build/setup: requirements.lock demo/requirements.lock pyproject.toml $(VENV_GONE)
	@echo "== set up .venv (several minutes the first time: torch, transformers, TorchServe, Java)"
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else \
	f"error: this is Python {v[0]}.{v[1]}; set PYTHON=... to a Python 3.11")'
	$(call install,.venv,$<)
	$(PY) -m pip install --disable-pip-version-check --no-deps --require-hashes -r demo/requirements.lock
	$(PY) -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@mkdir -p .build && touch $@

.build/setup-serve: deploy/requirements.lock
	@echo "== set up .venv-serve (what a machine that only serves needs; the tests use it)"
	$(call install,.venv-serve,$<)
	@mkdir -p .build && touch $@

.build/setup-bench: benchmarks/requirements.lock
	@echo "== set up .venv-bench (the engines that \`make bench\` compares with)"
	$(call install,.venv-bench,$<)
	@mkdir -p .build && touch $@

$(DEMO_MODEL): .build/setup demo/train.py demo/reviews.csv
	@echo "== fine-tune the demo model"
	$(PY) demo/train.py

.build/model: .build/setup .build/config $(CONFIG) $(MODEL_FILES) $(EXPORT_CODE) \
		$(SAMPLE_FILES) $(CALIBRATION) $(MODEL_GONE)
	@echo "== export"
	$(PY) download_Transformer_models.py $(CONFIG) --output $(ARTIFACT)
	@touch $@

.build/archive: .build/model $(SERVING_CODE) $(ARCHIVE_GONE)
	@echo "== archive"
	$(PY) -m torchscript_bundle.export.archive --config $(CONFIG) --artifact $(ARTIFACT)
	@ls -t model_store/*.mar | head -n 1 > $@

# Changes when another CONFIG is named, even an older file.
.build/config: FORCE
	@mkdir -p .build
	@echo '$(CONFIG)' | cmp -s - $@ || echo '$(CONFIG)' > $@
FORCE:
