"""Requests of OpenAI's clients."""
