"""TorchScript toolkit: compile modes, tracing, dispatch by length, verify. Knows torch only."""

from torchscript_bundle.jit.arguments import KeptArguments, keep_arguments
from torchscript_bundle.jit.attention import AttentionMask, KeyValueCache
from torchscript_bundle.jit.compilation import compile, script, trace, trace_module
from torchscript_bundle.jit.deprecation import accept_deprecation
from torchscript_bundle.jit.examples import MethodInputs, TensorSpec
from torchscript_bundle.jit.modes import (
    CompileMode,
    compile_mode,
    get_compile_mode,
    set_compile_mode,
)
from torchscript_bundle.jit.tracing import Tensors, load, record_tracer_warnings, save
from torchscript_bundle.jit.tying import untie
from torchscript_bundle.jit.types import DataclassAsDict, DataclassAsTuple

__all__ = [
    "AttentionMask",
    "CompileMode",
    "DataclassAsDict",
    "DataclassAsTuple",
    "KeptArguments",
    "KeyValueCache",
    "MethodInputs",
    "TensorSpec",
    "Tensors",
    "accept_deprecation",
    "compile",
    "compile_mode",
    "get_compile_mode",
    "keep_arguments",
    "load",
    "record_tracer_warnings",
    "save",
    "script",
    "set_compile_mode",
    "trace",
    "trace_module",
    "untie",
]
