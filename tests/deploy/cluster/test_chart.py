"""The chart: what it renders is valid, fits together, and wrong values are refused."""

from __future__ import annotations

import argparse
import http.server
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.deploy.cluster import crds
from tests.deploy.cluster.tools import (
    CHART,
    Document,
    of_kind,
    render,
    run,
    validate,
)
from torchscript_bundle.commands import COMMANDS
from torchscript_bundle.server import ROOT
from torchscript_bundle.supervisor.keys import parse

#: The oldest that the chart takes, and that of its helm and kubectl.
VERSIONS = ("1.27", "1.35")
KEY = {"name": "team-a", "key": "k" * 32, "scope": "inference"}
SETS: dict[str, Document] = {
    "least": {"keys": {"none": True}},
    "fetched": {
        "keys": {"list": [KEY]},
        "model": {"url": "https://models.example:8443/reviews.mar", "sha256": "0" * 64},
    },
    "copied": {
        "keys": {"existingSecret": "keys"},
        "model": {"image": "registry.example/reviews:3"},
        "imagePullSecrets": [{"name": "registry"}],
    },
    "everything": {
        "image": {"repository": "registry.example/torchscript-bundle", "tag": "1.2.3"},
        "keys": {"existingSecret": "keys"},
        "model": {"claim": "models", "sha256": "0" * 64},
        "tls": {"existingSecret": "certificate"},
        "autoscaling": {"enabled": True, "queueSeconds": 0.5},
        "shutdown": {"unreadySeconds": 15, "drainSeconds": 120},
        "gpus": 1,
        "nodeSelector": {"accelerator": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "env": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"}],
        "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
        "networkPolicy": {
            "clients": [{"podSelector": {"matchLabels": {"app": "shop"}}}],
            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "collector"}}}]}],
        },
    },
}


@pytest.fixture(scope="module", params=SETS)
def documents(request: pytest.FixtureRequest) -> list[Document]:
    """What the chart makes of each set of values. Do not change it."""
    return render(SETS[request.param])


def pod_of(documents: list[Document]) -> Document:
    """The template of the pods."""
    template: Document = of_kind(documents, "Deployment")["spec"]["template"]
    return template


def server_of(documents: list[Document]) -> Document:
    """The container that serves."""
    (container,) = pod_of(documents)["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_lint_finds_nothing(values: Document) -> None:
    said = run("helm", "lint", "--strict", CHART, "--values", "-", given=json.dumps(values))
    assert "0 chart(s) failed" in said


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_what_kubernetes_takes(documents: list[Document], version: str) -> None:
    for document in documents:
        if document["kind"] != "ServiceMonitor":
            validate(document, version)


def test_the_monitor_is_what_its_operator_takes() -> None:
    crds.validate(of_kind(render(SETS["everything"]), "ServiceMonitor"))


def misspell_a_probe(deployment: Document) -> None:
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["readynessProbe"] = container.pop("readinessProbe")


def write_a_number_in_words(deployment: Document) -> None:
    deployment["spec"]["replicas"] = "two"


def leave_out_the_selector(deployment: Document) -> None:
    del deployment["spec"]["selector"]


@pytest.mark.parametrize(
    "spoil", [misspell_a_probe, write_a_number_in_words, leave_out_the_selector]
)
def test_a_wrong_object_is_found(spoil) -> None:
    deployment = of_kind(render(SETS["least"]), "Deployment")
    validate(deployment, VERSIONS[-1])
    spoil(deployment)
    with pytest.raises(jsonschema.ValidationError, match=r"readynessProbe|two|selector"):
        validate(deployment, VERSIONS[-1])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"keys": {}}, "replicas must share their keys"),
        ({"keys": {"none": True, "list": [KEY]}}, "replicas must share their keys"),
        ({"keys": {"list": [{**KEY, "scope": "all"}]}}, "scope"),
        ({"keys": {"list": [{**KEY, "key": "short"}]}}, "key"),
        ({"keys": {"none": True}, "model": {"archive": "reviews"}}, "archive"),
        ({"keys": {"none": True}, "model": {"sha256": "0" * 63}}, "sha256"),
        (
            {"keys": {"none": True}, "model": {"url": "https://a/b.mar", "claim": "c"}},
            "model.url and model.claim are both set",
        ),
        ({"keys": {"none": True}, "autoscaling": {"queueSecond": 1}}, "queueSecond"),
        ({"keys": {"none": True}, "replicas": 0}, "replicas"),
    ],
)
def test_wrong_values_are_refused(wrong: Document, says: str) -> None:
    given = json.dumps(wrong)
    assert says in run("helm", "template", "reviews", CHART, "--values", "-", given=given, status=1)


def test_everything_selects_the_pods(documents: list[Document]) -> None:
    pod = pod_of(documents)
    selectors = [
        *(each["spec"]["selector"] for each in documents if each["kind"] == "Service"),
        of_kind(documents, "Deployment")["spec"]["selector"]["matchLabels"],
        of_kind(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(
            spread["labelSelector"]["matchLabels"]
            for spread in pod["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert len(selectors) == 7
    for selector in selectors:
        assert selector.items() <= pod["metadata"]["labels"].items()


def test_the_monitor_and_the_autoscaler_find_what_they_name() -> None:
    documents = render(SETS["everything"])
    monitor = of_kind(documents, "ServiceMonitor")["spec"]
    watched = [
        each
        for each in documents
        if each["kind"] == "Service"
        and monitor["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
    ]
    assert [each["metadata"]["name"] for each in watched] == ["reviews-admin"]
    assert watched[0]["metadata"]["labels"][monitor["jobLabel"]] == "torchscript-bundle"
    ports = [port["name"] for port in watched[0]["spec"]["ports"]]
    assert [each["port"] for each in monitor["endpoints"]] == ports
    deployment = of_kind(documents, "Deployment")
    target = of_kind(documents, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert target["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]  # an upgrade would undo what the autoscaler did


def test_ports_and_volumes_exist(documents: list[Document]) -> None:
    server = server_of(documents)
    ports = {port["name"] for port in server["ports"]}
    for service in (each for each in documents if each["kind"] == "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for rule in of_kind(documents, "NetworkPolicy")["spec"]["ingress"]:
        assert {port["port"] for port in rule["ports"]} <= ports
    spec = pod_of(documents)["spec"]
    volumes = {volume["name"] for volume in spec["volumes"]}
    containers = [server, *spec.get("initContainers", [])]
    mounts = {mount["name"] for each in containers for mount in each["volumeMounts"]}
    assert mounts == volumes


def test_probes_ask_the_admin_port(documents: list[Document]) -> None:
    server = server_of(documents)
    probes = {
        name: server[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")
    }
    assert {probe["port"] for probe in probes.values()} == {"admin"}
    assert [probe["path"] for probe in probes.values()] == ["/startup", "/ready", "/live"]


def test_a_pod_may_take_as_long_as_its_server_drains(documents: list[Document]) -> None:
    seconds = {
        name: int(value)
        for name, _, value in (each.partition("=") for each in server_of(documents)["args"])
        if name.endswith("-seconds")
    }
    longest = seconds["--unready-seconds"] + seconds["--drain-seconds"]
    assert pod_of(documents)["spec"]["terminationGracePeriodSeconds"] == longest + 30


def test_no_container_may_do_more_than_serve(documents: list[Document]) -> None:
    spec = pod_of(documents)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


IMAGE = ROOT / "Dockerfile"


def test_the_command_of_the_image_takes_the_arguments(documents: list[Document]) -> None:
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*?\])", IMAGE.read_text().replace("\\\n", ""), re.M)
    init, _, program, command, *flags = json.loads(entry)
    assert (init, program) == ("tini", "torchscript-bundle")
    parser = argparse.ArgumentParser(exit_on_error=False)
    COMMANDS[command].add_flags(parser)
    parser.parse_args([*flags, *server_of(documents)["args"]])


def test_keys_of_the_values_are_a_file_of_keys() -> None:
    documents = render(SETS["fetched"])
    secret = of_kind(documents, "Secret")
    text = secret["stringData"]["keys.json"]
    assert json.loads(text) == [KEY]
    assert parse(text, "keys.json")[0].name == KEY["name"]
    (keys,) = (each for each in pod_of(documents)["spec"]["volumes"] if each["name"] == "keys")
    assert keys["secret"]["secretName"] == secret["metadata"]["name"]


@pytest.mark.parametrize(
    ("url", "port"),
    [("https://a/b.mar", 443), ("http://a/b.mar", 80), ("http://a:8000/b.mar", 8000)],
)
def test_a_fetching_pod_may_reach_the_address(url: str, port: int) -> None:
    documents = render({"keys": {"none": True}, "model": {"url": url}})
    allowed = of_kind(documents, "NetworkPolicy")["spec"]["egress"]
    assert [each["port"] for rule in allowed for each in rule["ports"]] == [53, 53, port]


def test_a_pod_that_has_its_archive_may_reach_nothing() -> None:
    assert of_kind(render(SETS["least"]), "NetworkPolicy")["spec"]["egress"] == []


@pytest.fixture
def host() -> Iterator[str]:
    """A server of archives: a whole one, and one that breaks off."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            whole = self.path == "/whole.mar"
            self.send_response(200 if whole or self.path == "/broken.mar" else 404)
            self.send_header("Content-Length", "7" if whole else "9")
            self.end_headers()
            self.wfile.write(b"archive")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(("name", "fetched"), [("whole", True), ("broken", False), ("no", False)])
def test_an_archive_is_fetched_whole_or_not_at_all(
    name: str, fetched: bool, host: str, tmp_path: Path
) -> None:
    """Runs the init container's command here."""
    documents = render({"keys": {"none": True}, "model": {"url": f"{host}/{name}.mar"}})
    (init,) = pod_of(documents)["spec"]["initContainers"]
    python, *arguments = init["command"]
    assert (python, arguments[-1]) == ("python", "/models/reviews.mar")
    target = tmp_path / "reviews.mar"
    command = [sys.executable, *arguments[:-1], str(target)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode == 0) is fetched, ended.stderr
    assert not fetched or target.read_bytes() == b"archive"
