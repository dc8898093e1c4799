"""Serve time: request bytes -> tokens -> batches -> ScriptModule -> answer.

This package travels inside every archive. It imports the standard library, torch and tokenizers
only, so a worker needs neither transformers nor the rest of the repository.
"""
