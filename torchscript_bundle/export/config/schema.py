"""The JSON Schema that `setup_config.json` refers to, for editors.

`python -m torchscript_bundle.export.config.schema > setup_config.schema.json` writes it.
"""

from __future__ import annotations

import json

from torchscript_bundle.export.config.settings import SetupConfig
from torchscript_bundle.export.config.torchserve_keys import UNUSED


def json_schema() -> str:
    """Return the schema of every key, those that do nothing marked as deprecated."""
    schema = SetupConfig.model_json_schema(by_alias=True)
    for key in schema["properties"].values():
        key["description"] = " ".join(key["description"].split())
    schema["properties"] |= {
        key: {"description": f"Accepted; it does nothing: {why}.", "deprecated": True}
        for key, why in UNUSED.items()
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
