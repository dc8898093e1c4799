"""Generative models: `make_generator` makes the module that jit/generation/README.md describes."""

from torchscript_bundle.export.generation.facts import GeneratorFacts, read_facts
from torchscript_bundle.export.generation.maker import GeneratorProof, compare_all, make_generator

__all__ = ["GeneratorFacts", "GeneratorProof", "compare_all", "make_generator", "read_facts"]
