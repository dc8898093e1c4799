"""The kustomize base is the chart, and the example of an overlay builds."""

from __future__ import annotations

import pytest
import yaml

from tests.deploy.cluster.tools import CHART, DEPLOY, Document, of_kind, run, validate

FOLDER = DEPLOY / "kustomize"


def build(overlay: str) -> list[Document]:
    """Return the objects of a base or an overlay."""
    return list(yaml.safe_load_all(run("kubectl", "kustomize", FOLDER / overlay)))


def test_the_base_is_rendered_from_the_chart() -> None:
    base = FOLDER / "base"
    rendered = run(
        "helm", "template", "torchscript-bundle", CHART, "--values", base / "values.yaml"
    )
    assert (base / "torchscript-bundle.yaml").read_text() == rendered, (
        "render it anew, as deploy/kustomize/base/kustomization.yaml says"
    )


@pytest.mark.parametrize("overlay", ["base", "overlays/gpu"])
def test_objects_are_what_kubernetes_takes(overlay: str) -> None:
    documents = build(overlay)
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} == {
        document["kind"] for document in documents
    }
    for document in documents:
        validate(document, "1.35")


def test_the_overlay_changes_what_it_says() -> None:
    deployment = of_kind(build("overlays/gpu"), "Deployment")
    assert (deployment["metadata"]["namespace"], deployment["spec"]["replicas"]) == ("reviews", 3)
    (server,) = deployment["spec"]["template"]["spec"]["containers"]
    assert server["image"].startswith("registry.example/")
    assert server["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_an_overlay_that_patches_nothing_is_found(tmp_path) -> None:
    wrong = {
        "resources": ["torchscript-bundle.yaml"],
        "patches": [{"target": {"kind": "Deployment"}, "patch": "- {op: remove, path: /spec/no}"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(wrong))
    rendered = (FOLDER / "base" / "torchscript-bundle.yaml").read_text()
    (tmp_path / "torchscript-bundle.yaml").write_text(rendered)
    assert "/spec/no" in run("kubectl", "kustomize", tmp_path, status=1)
