"""Make environments from locks, and the locks; settings of TorchServe."""
