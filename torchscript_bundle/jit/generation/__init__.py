"""The scripted half of text generation: sampling, the cache and the loop."""

from torchscript_bundle.jit.generation.draw import Draw
from torchscript_bundle.jit.generation.generator import Generator
from torchscript_bundle.jit.generation.repetition import RepetitionPenalty
from torchscript_bundle.jit.generation.sampler import Sampler
from torchscript_bundle.jit.generation.temperature import Temperature
from torchscript_bundle.jit.generation.top_k import TopK
from torchscript_bundle.jit.generation.top_p import TopP

__all__ = ["Draw", "Generator", "RepetitionPenalty", "Sampler", "Temperature", "TopK", "TopP"]
