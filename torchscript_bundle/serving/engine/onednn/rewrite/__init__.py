"""Rewrite a frozen graph over oneDNN's packed layers."""
