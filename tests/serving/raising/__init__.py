"""Computations that raise, run in a process of their own: one that goes wrong ends it."""
