"""Rows of tokens -> outputs: plan, pad, run, in the precision and on the device there is."""
