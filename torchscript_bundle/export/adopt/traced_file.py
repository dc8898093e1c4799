"""Load the traced file of an old archive, which is a program: read its code before it runs."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import torch

from torchscript_bundle.export.errors import ExportError, one_line
from torchscript_bundle.jit import tracing
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.jit.tracing import OWN_NAMESPACES
from torchscript_bundle.serving.engine.devices import retarget

#: Most bytes of code: that of BERT-base takes 0.3 MB.
MOST_CODE = 50_000_000
#: What a traced model has no use for: files, output, methods that run while it is loaded.
FORBIDDEN = {
    r"\b(?:torch|ops\.\w+)\.(?:save|from_file)\b": "reads or writes files",
    r"\bprint\(|\b(?:torch|ops\.\w+)\._print\b": "prints",
    r"\bdef __(?:setstate|getstate)__\b": "runs code while it is loaded",
}
FOREIGN = re.compile(r"\bops\.(\w+)\.(\w+)\(")
#: torch's names for an operator that it does not have.
UNKNOWN = re.compile(r"Unknown builtin op: ([\w:.]+?)\.?\s|[Nn]o such operator ([\w:.]+)")


def load_traced(path: Path, code: str, device: torch.device) -> torch.jit.ScriptModule:
    """Load a traced file, whose code was read, onto a device, whatever device it was traced on.

    ExportError: the file is damaged, needs operators that this torch lacks, or does what no traced
    model does.
    """
    _check_code(path, code)
    try:
        module = tracing.load(path, device)
    except RuntimeError as error:
        unknown = UNKNOWN.search(str(error))
        if unknown:
            name = next(group for group in unknown.groups() if group)
            raise ExportError(
                f"{path.name} uses the operator {name}, which torch {torch.__version__} lacks; "
                "export the model again from its checkpoint"
            ) from error
        raise ExportError(f"{path.name} cannot be loaded ({one_line(error)})") from error
    retarget(module, device)
    _check_weights(path, module)
    with accept_deprecation():
        return module.eval()


def read_code(path: Path) -> str:
    """Return the code in a TorchScript file, all files of it joined."""
    try:
        with zipfile.ZipFile(path) as opened:
            code = [
                e for e in opened.infolist() if "/code/" in e.filename and e.filename[-3:] == ".py"
            ]
            if sum(entry.file_size for entry in code) > MOST_CODE:
                raise ExportError(f"{path.name} has more code than any traced model")
            return "\n".join(opened.read(entry).decode("utf-8") for entry in code)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError) as error:
        raise ExportError(
            f"{path.name} is not a TorchScript file ({one_line(error)}); only what torch.jit.save "
            "wrote can be adopted"
        ) from error


def _check_code(path: Path, code: str) -> None:
    if not code:
        raise ExportError(
            f"{path.name} holds no TorchScript code; only what torch.jit.save wrote can be adopted"
        )
    for pattern, does in FORBIDDEN.items():
        if re.search(pattern, code):
            raise ExportError(f"{path.name} {does}, which no traced model does; it was not loaded")
    foreign = sorted({"::".join(found) for found in FOREIGN.findall(code)})
    foreign = [name for name in foreign if name.split("::")[0] not in OWN_NAMESPACES]
    if foreign:
        raise ExportError(
            f"{path.name} uses the operators {', '.join(foreign[:3])}, which torch alone does not "
            "have; export the model again from its checkpoint"
        )


def _check_weights(path: Path, module: torch.jit.ScriptModule) -> None:
    tensors = (*module.parameters(), *module.buffers())
    lower = sorted({str(t.dtype) for t in tensors if t.is_floating_point()} - {"torch.float32"})
    if lower:
        raise ExportError(
            f"{path.name} has weights in {', '.join(lower)}; only traces in float32 can be adopted"
        )


def count_inputs(module: torch.jit.ScriptModule) -> int:
    """Return how many tensors `forward` takes."""
    inputs = list(module.graph.inputs())[1:]
    if not 1 <= len(inputs) <= 3 or any(each.type().kind() != "TensorType" for each in inputs):
        kinds = ", ".join(str(each.type()) for each in inputs) or "nothing"
        raise ExportError(
            f"the traced module takes {kinds}; what can be adopted takes token ids, then a mask, "
            "then token types"
        )
    return len(inputs)
