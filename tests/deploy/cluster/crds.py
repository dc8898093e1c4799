"""Checks of objects by CustomResourceDefinitions: those of KServe and the Prometheus operator."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.deploy.cluster.tools import Document

#: Names a folder with the definitions; `make check-deploy CRDS=...` sets it.
FOLDER = "CRDS"


def validate(document: Document) -> None:
    """Check an object by its definition, strictly: names that it does not have are refused."""
    folder = os.environ.get(FOLDER)
    if not folder:
        pytest.skip("needs `make check-deploy CRDS=folder`, with definitions: docs/kubernetes.md")
    group, _, version = document["apiVersion"].partition("/")
    schema = _schema(Path(folder), group, document["kind"], version)
    # Not jsonschema.validate, which would first check the schema: seconds, for those of KServe.
    jsonschema.Draft202012Validator(schema).validate(document)


@cache
def _schema(folder: Path, group: str, kind: str, version: str) -> Any:
    for path in folder.glob("*.yaml"):
        text = path.read_text()
        if f"kind: {kind}\n" not in text:
            continue  # reading one takes seconds too
        spec = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]
        if (spec["group"], spec["names"]["kind"]) == (group, kind):
            (found,) = (each for each in spec["versions"] if each["name"] == version)
            return _closed(found["schema"]["openAPIV3Schema"], top=True)
    raise AssertionError(f"{folder} has no definition of {kind} in {group}")


def _closed(schema: Any, *, top: bool = False) -> Any:
    """Return a schema that refuses what a cluster would silently leave out."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(each) for name, each in schema.items()}
    properties = schema.get("properties")
    if (
        isinstance(properties, dict)
        and schema.get("type") == "object"
        and not schema.get("x-kubernetes-preserve-unknown-fields")
    ):
        closed.setdefault("additionalProperties", False)
    if top:
        closed["properties"]["metadata"] = {"type": "object"}
    return closed
