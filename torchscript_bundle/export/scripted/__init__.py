"""Stand-ins for transformers' modules whose control flow depends on data: they are scripted.

Each is made from the module that it stands in for and holds that module's own parameters. Where
one function of a module loops, `functions` replaces that alone. Their files
go without `from __future__ import annotations`, because TorchScript reads the annotations.
"""
