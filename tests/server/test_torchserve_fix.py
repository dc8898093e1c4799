"""The class that takes the place of TorchServe's own; that it helps is a test of a live server."""

from __future__ import annotations

import site
import zipfile
from pathlib import Path

from torchscript_bundle.server.torchserve_fix import CLASS, JAR, PLACES, mend

PACKAGES = Path(site.getsitepackages()[0])


def test_the_installed_torchserve_is_the_one_that_is_known(tmp_path: Path) -> None:
    assert mend(PACKAGES, tmp_path)
    mended = (tmp_path / CLASS).read_bytes()
    with zipfile.ZipFile(PACKAGES / JAR) as jar:
        own = jar.read(CLASS)
    assert len(mended) == len(own)
    differ = {at for at, (one, other) in enumerate(zip(own, mended, strict=True)) if one != other}
    assert differ == {at + byte for at in PLACES for byte in range(3)}


def test_another_torchserve_is_left_alone(tmp_path: Path) -> None:
    assert not mend(tmp_path, tmp_path / "run")
    (tmp_path / JAR).parent.mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / JAR, "w") as jar:
        jar.writestr(CLASS, b"another")
    assert not mend(tmp_path, tmp_path / "run")
    assert not (tmp_path / "run").exists()
