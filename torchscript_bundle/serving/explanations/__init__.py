"""Explanations: attributions of a score to the tokens of its text."""
