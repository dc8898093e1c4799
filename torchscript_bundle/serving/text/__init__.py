"""Strings <-> tokens: tokenizer, detokenizer, stop strings, chat templates."""
