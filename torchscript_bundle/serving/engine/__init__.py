"""Rows of tokens -> outputs: plan, pad and run, on this device and in its precision."""
