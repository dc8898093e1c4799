"""What is raised where the module as saved must run."""

import torch

#: What a graph raises when it runs: TorchScript makes a RuntimeError of nearly any error, and of a
#: `raise` or `assert` that the model wrote a torch.jit.Error, which is no RuntimeError.
GRAPH_ERRORS = (RuntimeError, torch.jit.Error, MemoryError)


class NotPackedError(Exception):
    """A module cannot be packed here. The message says why, for the log."""
