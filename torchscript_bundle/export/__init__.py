"""Build time: Hugging Face model -> wrapper -> traced, verified artifact -> archive."""
