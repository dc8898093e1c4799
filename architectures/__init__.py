"""Every text architecture of the installed transformers, tiny and random, through the exporter."""
