"""Why a model answers as it does: which tokens made a score what it is."""
