"""Turn a `.mar` of the TorchServe example into a model that the exporter takes.

`adoption` reads an old archive into a folder, `kinds/traced_folder.py` loads a folder whose model
is a traced file, `save_modes/adopted.py` proves it.
"""
