"""The unit is one that systemd takes, and it leaves the service few rights."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from torchscript_bundle.server import ROOT

UNIT = ROOT / "deploy" / "systemd" / "torchscript-bundle.service"
#: Of 10, by `systemd-analyze security`: 9.6 is a unit without any hardening.
MOST_EXPOSED = 2.0

pytestmark = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)


def analyze(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def verify(text: str, folder: Path) -> tuple[int, str]:
    """What is said of a unit whose command is there."""
    unit = folder / UNIT.name
    unit.write_text(re.sub(r"^(Exec\w+)=/opt/\S+", rf"\1={sys.executable}", text, flags=re.M))
    return analyze("verify", str(unit))


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    assert verify(UNIT.read_text(), tmp_path) == (0, "")


def test_a_wrong_unit_is_told(tmp_path: Path) -> None:
    _, said = verify(UNIT.read_text().replace("KillMode=mixed", "KillMode=gently"), tmp_path)
    assert "kill mode" in said


def test_the_unit_leaves_few_rights() -> None:
    _, said = analyze("security", "--no-pager", "--offline=yes", str(UNIT))
    found = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert found and float(found[1]) <= MOST_EXPOSED
