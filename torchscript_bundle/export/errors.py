"""What can go wrong at build time."""


class ExportError(Exception):
    """Nothing was written; the message is one sentence (or a line for each fault) with the fix."""
