"""Tests of the supervisor of TorchServes."""
