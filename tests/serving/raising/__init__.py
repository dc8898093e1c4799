"""Run computations that raise in a process of their own, since a wrong one ends the process."""
