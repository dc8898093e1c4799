"""Hugging Face text models, traced to TorchScript, proven exact and served by TorchServe."""
