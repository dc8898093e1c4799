"""What the figures were measured on and with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from torchscript_bundle.server import ROOT
from torchscript_bundle.server.machine import usable_cores

#: Processor flags that matrix products depend on.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "avx_vnni")
OURS = ("torch", "transformers", "tokenizers", "torchserve")
OTHERS = ("torch", "transformers", "litserve", "onnxruntime", "openvino")


def describe() -> dict[str, Any]:
    """Machine, versions and date, those of the engines that are compared with too."""
    return {**describe_briefly(), "versions_of_others": _versions_of_others(), "wrk": _wrk()}


def describe_briefly() -> dict[str, Any]:
    """Machine, versions and date."""
    model, flags = _processor()
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": model,
        "cores": usable_cores(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in OURS},
    }


def name_of(facts: dict[str, Any]) -> str:
    """The machine in a file's name."""
    words = re.sub(r"\((R|TM)\)", "", facts["processor"])
    slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    return f"{slug}-{facts['cores']}-cores"


def _processor() -> tuple[str, set[str]]:
    """Its name and flags, of Linux's /proc."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine(), set()
    facts = dict(re.findall(r"^([\w ]+?)\s*:\s*(.*)$", text, re.MULTILINE))
    return facts.get("model name", platform.machine()), set(facts.get("flags", "").split())


def _versions_of_others() -> dict[str, str]:
    """Of the benchmark's own environment."""
    python = ROOT / ".venv-bench" / "bin" / "python"
    command = [str(python), "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = dict(line.split("==") for line in listed.splitlines() if "==" in line)
    return {name: found[name] for name in OTHERS}


def _wrk() -> str:
    said = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return (said.stdout or said.stderr).splitlines()[0].split(" Copyright")[0].strip()
