"""Scripted replacements for transformers' modules whose control flow depends on data.

Each is made from the module that it replaces and holds its parameters. Where one function of a
module loops, `functions` replaces that function alone. These files go without `from __future__
import annotations`, because TorchScript reads the annotations.
"""
