"""An archive's description: its OpenAPI document and its facts."""
