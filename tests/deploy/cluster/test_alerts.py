"""Every alert is tried by promtool, which finds what a wrong one does."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.cluster import crds
from tests.deploy.cluster.tools import DEPLOY, run
from torchscript_bundle.server import ROOT

FOLDER = DEPLOY / "prometheus"
ALERTS = FOLDER / "alerts.yaml"
#: The command that makes the operator's object of the alerts.
COMMAND = re.compile(r"^\{ echo [^}]*\}\n[^}]*; \} \\\n +\| kubectl apply .*$", re.MULTILINE)


def test_the_rules_are_valid() -> None:
    assert "SUCCESS" in run("promtool", "check", "rules", ALERTS)


def test_they_alert_when_they_should() -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", FOLDER / "alerts_test.yaml")


def test_each_is_seen_to_alert_and_to_keep_quiet() -> None:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in group["rules"]}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('status!="503"', 'status!="504"'),
        ("> 1\n        for: 10m", "> 10\n        for: 10m"),
    ],
)
def test_a_wrong_expression_is_found(right: str, wrong: str, tmp_path: Path) -> None:
    text = ALERTS.read_text()
    assert right in text
    (tmp_path / "alerts.yaml").write_text(text.replace(right, wrong))
    shutil.copy(FOLDER / "alerts_test.yaml", tmp_path)
    assert "FAILED" in run("promtool", "test", "rules", tmp_path / "alerts_test.yaml", status=1)


def test_an_expression_that_is_none_is_found(tmp_path: Path) -> None:
    (tmp_path / "alerts.yaml").write_text(ALERTS.read_text().replace("== 0", "= 0"))
    assert "could not parse expression" in run(
        "promtool", "check", "rules", tmp_path / "alerts.yaml", status=1
    )


def test_the_operator_takes_them_by_the_documented_command() -> None:
    page = (ROOT / "docs" / "kubernetes.md").read_text()
    (command,) = COMMAND.findall(page)
    piped = command.replace("kubectl apply --filename -", "cat")
    assert piped != command
    printed = subprocess.run(
        ["bash", "-c", piped], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    rule = yaml.safe_load(printed)
    assert rule["spec"] == yaml.safe_load(ALERTS.read_text())
    crds.validate(rule)
