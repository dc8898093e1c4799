"""Read an archive of the TorchServe example, which is not trusted: no member runs or escapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.members import Members, open_members
from torchscript_bundle.sums import MANIFEST

SETUP_CONFIG = "setup_config.json"
REMEDY = "copy it again, or pack it with torch-model-archiver's default format"
#: Names of members at the top of an archive, other ones are not read.
PLAIN_NAME = re.compile(r"\w[\w. -]*")


class _WithoutAliases(yaml.SafeLoader):
    """Refuses aliases, by which a few lines can stand for gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not accepted")
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class OldArchive:
    """An open archive.

    Attributes:
        name: the model's name in TorchServe's URLs.
        settings: the config of the example's handler, as written.
        model_file: the file of weights or the traced module, as the manifest names it.
        files: the names of the members at the top of the archive.
    """

    path: Path
    name: str
    settings: Mapping[str, Any]
    model_file: str
    files: frozenset[str]
    _members: Members

    def extract(self, name: str, folder: Path) -> None:
        """Copy a member at the top of the archive into a folder."""
        with (folder / name).open("xb") as target:
            if name == self.model_file:
                target.writelines(self._members.chunks(name))
            else:
                target.write(self._members.read(name))


@contextmanager
def open_archive(path: Path) -> Iterator[OldArchive]:
    """Open an archive; ExportError says what is wrong with a file that is none."""
    if path.is_dir():
        raise ExportError(
            f"{path} is a folder; pack it with torch-model-archiver, or zip its contents as a .mar"
        )
    if not path.exists():
        raise ExportError(f"{path}: no such file; give the path of a .mar archive")
    with open_members(path, REMEDY, ExportError) as members:
        yield _read(path, members)


def _read(path: Path, members: Members) -> OldArchive:
    if MANIFEST not in members.names:
        raise ExportError(f"{path} has no {MANIFEST}, so it is no archive of TorchServe's")
    manifest = _mapping(members, path, MANIFEST)
    about = manifest.get("model")
    if not isinstance(about, dict):
        raise ExportError(f"{path}: {MANIFEST} does not say what the model is")
    model_file = about.get("serializedFile")
    top = frozenset(name for name in members.names if PLAIN_NAME.fullmatch(name))
    if not isinstance(model_file, str) or model_file not in top:
        raise ExportError(
            f"{path}: {MANIFEST} names no model in the archive (serializedFile is "
            f"{json.dumps(model_file)}); only archives of the TorchServe example can be adopted"
        )
    return OldArchive(
        path=path,
        name=str(about.get("modelName") or path.stem),
        settings=_settings(members, path, about.get("configFile"), top),
        model_file=model_file,
        files=top,
        _members=members,
    )


def _settings(
    members: Members, path: Path, config_file: object, top: frozenset[str]
) -> dict[str, Any]:
    """Return the example's settings: `setup_config.json`, later `model-config.yaml`."""
    found: dict[str, Any] = {}
    if isinstance(config_file, str) and config_file in top:
        found = _mapping(members, path, config_file)
    if SETUP_CONFIG in top:
        found |= _mapping(members, path, SETUP_CONFIG)
    if "mode" not in found and "mode" not in (found.get("handler") or {}):
        raise ExportError(
            f"{path} has no {SETUP_CONFIG} and no model config with a handler's mode: only "
            "archives of the TorchServe Hugging Face example can be adopted"
        )
    return found


def _mapping(members: Members, path: Path, name: str) -> dict[str, Any]:
    """Return the JSON object or YAML mapping in a member."""
    raw = members.read(name)
    try:
        text = raw.decode("utf-8")
        value = json.loads(text) if name.endswith(".json") else yaml.load(text, _WithoutAliases)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ExportError(f"{path}: {name} cannot be read; correct it and pack it again") from error
    if not isinstance(value, dict):
        raise ExportError(f"{path}: {name} must hold a mapping of keys and values")
    return value
