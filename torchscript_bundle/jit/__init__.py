"""TorchScript toolkit: trace, dispatch by length, verify. Knows torch only."""
