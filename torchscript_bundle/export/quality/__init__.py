"""The quality gate: whether a model's answers stay the same at a lower precision."""
