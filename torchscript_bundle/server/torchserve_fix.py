"""Mend a fault of TorchServe 0.12.0: a describe call freezes a server that generates.

Under continuous batching `Model.pollInferJob` puts a call with `customized=true` back to the head
of its queue each time it takes it. No response ends that: the worker gets the call forever, and
nobody else is served. TorchServe's repository is archived, so no release will mend it.

Java looks for classes in its working directory first (`-cp .:...` in `ts/model_server.py`), so a
copy of that class there, which treats the call as any other job, replaces the jar's.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

#: Beside the packages of an environment.
JAR = Path("ts") / "frontend" / "model-server.jar"
CLASS = "org/pytorch/serve/wlm/Model.class"
#: Of the class in torchserve 0.12.0 from PyPI.
SHA256 = "7c5523f1fe77fe79aa32665469e17725e70518692abcf4987989ef72f10d4cff"
#: Offsets at which the method pushes `WorkerCommands.DESCRIBE` to compare a job's command with it.
#: No command equals the null that is pushed instead.
PLACES = (15977, 16090)
GETSTATIC_DESCRIBE, ACONST_NULL = b"\xb2\x02\x0f", b"\x01\x00\x00"


def mend(packages: Path, folder: Path) -> bool:
    """Write the mended class into `folder`, the working directory of TorchServe.

    Return False, and write nothing, if `packages` (`site-packages`) has another TorchServe.
    """
    try:
        with zipfile.ZipFile(packages / JAR) as jar:
            code = bytearray(jar.read(CLASS))
    except (OSError, KeyError, zipfile.BadZipFile):
        return False
    if hashlib.sha256(code).hexdigest() != SHA256:
        return False
    for place in PLACES:
        assert code[place : place + 3] == GETSTATIC_DESCRIBE
        code[place : place + 3] = ACONST_NULL
    target = folder / CLASS
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(code)
    return True
