"""Whether what workers compute at a lower precision is still what the model says."""
