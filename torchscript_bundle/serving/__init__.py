"""Serve time: request bytes -> tokens -> batches -> ScriptModule -> answer.

This package is part of every archive. It imports only the standard library, torch and tokenizers,
so a worker needs neither transformers nor the rest of the repository.
"""
