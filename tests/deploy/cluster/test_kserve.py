"""KServe's runtime serves as the chart does, and its objects are what KServe takes."""

from __future__ import annotations

import copy

import jsonschema
import pytest
import yaml

from tests.deploy.cluster import crds
from tests.deploy.cluster.tools import DEPLOY, Document, of_kind, render, validate

PORTS = {"http": 8080, "admin": 8090}


def load(name: str) -> Document:
    """Read an object of deploy/kserve."""
    document: Document = yaml.safe_load((DEPLOY / "kserve" / name).read_text())
    return document


RUNTIME, SERVICE = load("runtime.yaml"), load("inferenceservice.yaml")
CONTAINER: Document = RUNTIME["spec"]["containers"][0]


@pytest.mark.parametrize("document", [RUNTIME, SERVICE], ids=lambda each: each["kind"])
def test_objects_are_what_kserve_takes(document: Document) -> None:
    crds.validate(document)


def call_the_format_type(runtime: Document) -> None:
    (offered,) = runtime["spec"]["supportedModelFormats"]
    offered["type"] = offered.pop("name")


def ask_for_a_protocol_by_its_own_key(runtime: Document) -> None:
    runtime["spec"]["protocolVersion"] = runtime["spec"].pop("protocolVersions")


@pytest.mark.parametrize("spoil", [call_the_format_type, ask_for_a_protocol_by_its_own_key])
def test_a_wrong_runtime_is_found(spoil) -> None:
    wrong = copy.deepcopy(RUNTIME)
    spoil(wrong)
    with pytest.raises(jsonschema.ValidationError, match=r"'type'|'protocolVersion'|name"):
        crds.validate(wrong)


def test_a_wrong_service_is_found() -> None:
    wrong = copy.deepcopy(SERVICE)
    metric = wrong["spec"]["predictor"]["autoScaling"]["metrics"][0]["external"]["metric"]
    metric["backend"] = "promotheus"
    with pytest.raises(jsonschema.ValidationError, match="promotheus"):
        crds.validate(wrong)


def test_the_pod_is_what_kubernetes_takes() -> None:
    """A runtime's containers and volumes are those of a pod; KServe adds the models."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reviews"},
        "spec": {
            "containers": RUNTIME["spec"]["containers"],
            "volumes": RUNTIME["spec"]["volumes"],
        },
    }
    validate(pod, "1.35")
    volumes = {volume["name"] for volume in RUNTIME["spec"]["volumes"]}
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == volumes


def test_it_serves_as_the_chart_does() -> None:
    chart = of_kind(render({"keys": {"existingSecret": "torchscript-bundle-keys"}}), "Deployment")
    pod = chart["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert CONTAINER["image"] == server["image"]
    assert CONTAINER["args"][1:] == server["args"]
    assert CONTAINER["resources"] == server["resources"]
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = copy.deepcopy(server[name])
        probe["httpGet"]["port"] = PORTS[probe["httpGet"]["port"]]
        assert CONTAINER[name] == probe
    assert server["securityContext"].items() <= CONTAINER["securityContext"].items()
    for name in ("runAsNonRoot", "runAsUser", "seccompProfile"):
        assert CONTAINER["securityContext"][name] == pod["securityContext"][name]
    grace = SERVICE["spec"]["predictor"]["terminationGracePeriodSeconds"]
    assert grace == pod["terminationGracePeriodSeconds"]


def test_the_service_asks_for_what_the_runtime_offers() -> None:
    model = SERVICE["spec"]["predictor"]["model"]
    offered = RUNTIME["spec"]["supportedModelFormats"]
    assert model["modelFormat"]["name"] in [each["name"] for each in offered]
    assert model["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]
    assert CONTAINER["name"] == "kserve-container"
    assert CONTAINER["args"][0] == "--models=/mnt/models"
    assert CONTAINER["ports"][0]["containerPort"] == PORTS["http"]
    assert RUNTIME["spec"]["annotations"]["prometheus.kserve.io/port"] == str(PORTS["admin"])
