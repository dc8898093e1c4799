"""The answer to a describe call, and where its OpenAPI document comes from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serving.helpers import CPU
from torchscript_bundle.serving.artifact import API_FILE
from torchscript_bundle.serving.describe.describe_call import load_api
from torchscript_bundle.serving.describe.openapi import describe_folder
from torchscript_bundle.serving.errors import ArtifactError
from torchscript_bundle.serving.service import Service

Named = Callable[[str], Path]


@pytest.fixture
def archive(artifact: Named, tmp_path: Path) -> Path:
    """An unpacked archive: the artifact with the document for the name it was packed under."""
    folder = tmp_path / "archive"
    shutil.copytree(artifact("bert"), folder)
    (folder / API_FILE).write_text(json.dumps(describe_folder(folder, "packed")))
    return folder


def test_the_folder_of_an_artifact_has_no_document_and_is_described(artifact: Named) -> None:
    facts = Service(artifact("bert"), CPU, "other").describe()
    assert next(iter(facts["openapi"]["paths"])) == "/predictions/other"
    assert facts["labels"] == ("SAD", "SO-SO", "GLAD")


@pytest.mark.parametrize("name", ["packed", "other", "v1", "a{b}", "predictions"])
def test_an_archives_document_gets_the_name_of_the_model(archive: Path, name: str) -> None:
    assert load_api(archive, name) == json.loads(json.dumps(describe_folder(archive, name)))


def test_an_archives_document_is_not_made_again(archive: Path) -> None:
    api = load_api(archive, "packed")
    (archive / API_FILE).write_text(json.dumps({**api, "x-read": True}))
    assert Service(archive, CPU, "other").describe()["openapi"]["x-read"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a JSON object"),
        ("{}", "is not the document of this version"),
        ('{"paths": {"/a": {"post": {"operationId": "a"}}}}', "is not the document"),
        ('{"paths": [], "info": {}}', "is not the document"),
    ],
)
def test_a_damaged_document_is_refused(archive: Path, text: str, says: str) -> None:
    (archive / API_FILE).write_text(text)
    with pytest.raises(ArtifactError, match=says):
        load_api(archive, "m")
