"""Text generation: prompts join a batch and leave it between two tokens."""
