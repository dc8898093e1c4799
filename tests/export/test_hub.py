"""Downloads, as a user runs them: the command, HF_ENDPOINT and a hub that answers over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests import tiny
from tests.disks import disk
from tests.export.helpers import copy, edit_json, listing, write_config
from tests.hub import Hub

ROOT = Path(__file__).resolve().parents[2]
NAME = "org/tiny-bert"
NEEDED = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
MODELING = """
from pathlib import Path
from transformers import BertConfig, BertForSequenceClassification
Path({marker!r}).write_text("ran")
class OwnConfig(BertConfig):
    model_type = "own"
class OwnModel(BertForSequenceClassification):
    config_class = OwnConfig
"""


ENDED = "<the run has ended>"
#: Runs the command's `main` on each of some tokens, configs and outputs.
SEVERAL = f"""
import json, os, sys
from download_Transformer_models import main
for token, config, output in json.loads(sys.argv[1]):
    os.environ.pop("HF_TOKEN", None)
    if token:
        os.environ["HF_TOKEN"] = token
    sys.argv = ["download_Transformer_models.py", config, "--output", output]
    print(main())
    for stream in (sys.stdout, sys.stderr):
        print("{ENDED}", file=stream, flush=True)
"""


@dataclass
class Run:
    """A finished command."""

    status: int
    out: str
    log: str
    artifact: Path

    def bundle(self) -> Any:
        """What it wrote as bundle.json; the command must have succeeded."""
        assert self.status == 0, self.log
        return json.loads((self.artifact / "bundle.json").read_text())


class Machine:
    """A machine of its own: a home for the cache, an endpoint, a folder for output."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        self.folder = folder
        self.variables = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home")}
        # Nothing is asked for twice because this machine is busy.
        self.variables |= dict.fromkeys(("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"), "300")
        self.runs = 0

    def export(self, variables: dict[str, str] | None = None, **settings: Any) -> Run:
        """Runs the command on a config."""
        self.runs += 1
        output = self.folder / f"output{self.runs}"
        output.mkdir()
        config = write_config(self.folder, **{"model_name": NAME, **settings})
        artifact = output / "Transformer_model"
        script = ROOT / "download_Transformer_models.py"
        done = subprocess.run(
            [sys.executable, str(script), str(config), "--output", str(artifact)],
            env=self._environment(variables or {}),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        return Run(done.returncode, done.stdout, done.stderr, artifact)

    def exports(self, *runs: dict[str, Any], **variables: str) -> list[Run]:
        """What the command would do on several configs, in one process: its imports take seconds.

        Args:
            runs: settings, with `HF_TOKEN` among them where there is one.
            variables: of the environment.
        """
        asked = []
        for settings in runs:
            self.runs += 1
            token = settings.pop("HF_TOKEN", None)
            output = self.folder / f"output{self.runs}"
            output.mkdir()
            made = write_config(self.folder, **{"model_name": NAME, **settings})
            config = made.rename(self.folder / f"config{self.runs}.json")
            asked.append((token, str(config), str(output / "Transformer_model")))
        done = subprocess.run(
            [sys.executable, "-c", SEVERAL, json.dumps(asked)],
            env={**self._environment(variables), "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
        outs, logs = (said.split(ENDED)[:-1] for said in (done.stdout, done.stderr))
        finished = zip(asked, outs, logs, strict=True)
        return [
            Run(int(out.splitlines()[-1]), out, log, Path(artifact))
            for (_, _, artifact), out, log in finished
        ]

    def _environment(self, variables: dict[str, str]) -> dict[str, str]:
        ours = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("HF_", "HUGGING", "TQDM", "TRANSFORMERS"))
            and not key.lower().endswith("_proxy")
        }
        return {**ours, **self.variables, "OMP_NUM_THREADS": "1", **variables}


@pytest.fixture
def machine(tmp_path: Path, hub: Hub) -> Machine:
    """A machine whose Hub is `hub`, with an empty cache."""
    return Machine(tmp_path, hub.endpoint)


@pytest.fixture
def bert(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A checkpoint as the Hub has them: the weights in other formats too."""
    folder = copy(checkpoint("bert"), tmp_path / "repository")
    (folder / "setup_config.json").unlink(missing_ok=True)
    (folder / "onnx").mkdir()
    others = ("pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx")
    for name in (*others, "onnx/config.json", "README.md", "own_code.py"):
        (folder / name).write_bytes(b"nobody should fetch this")
    return folder


def refusal(run: Run) -> str:
    """The one sentence of a run that failed and left nothing behind."""
    assert run.status == 1, run.log
    assert "Traceback" not in run.log + run.out
    lines = [line for line in run.log.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.log
    assert listing(run.artifact.parent) == []
    return lines[0]


def test_downloads_what_is_needed_and_then_lives_off_the_cache(
    hub: Hub, machine: Machine, bert: Path
) -> None:
    commit = hub.add(NAME, bert)
    bundle = machine.export().bundle()
    assert bundle["source"] == {"model_name": NAME, "revision": commit}
    assert bundle["labels"] == ["SAD", "SO-SO", "GLAD"]
    assert hub.downloads() == dict.fromkeys(NEEDED, 1)

    asked = len(hub.requests)
    kept, other = machine.exports({}, {"model_name": "org/not-fetched"}, HF_HUB_OFFLINE="1")
    assert kept.bundle()["source"]["revision"] == commit
    assert len(hub.requests) == asked
    assert "HF_HUB_OFFLINE" in refusal(other)

    hub.stop()
    again = machine.export().bundle()
    assert again["sha256"] == bundle["sha256"]


def test_branch_commit_and_token(hub: Hub, machine: Machine, tmp_path: Path) -> None:
    """A private model with two revisions; the first download of a large file breaks off."""
    old = tiny.save_checkpoint(tmp_path / "old", labels=("OLD", "older"))
    new = tiny.save_checkpoint(tmp_path / "new", labels=("NEW", "newer"))
    (old / "large.safetensors").write_bytes(bytes(24_000_000))
    first = hub.add(NAME, old, branch="refs/pr/1", reader="hf_mine")
    second = hub.add(NAME, new, reader="hf_mine")
    hub.cut.add("large.safetensors")
    runs = machine.exports(
        {"revision": "refs/pr/1", "HF_TOKEN": "hf_mine"},
        {"revision": second, "HF_TOKEN": "hf_mine"},
    )
    branch, pinned = (run.bundle() for run in runs)
    assert branch["source"]["revision"] == first
    assert branch["labels"] == ["OLD", "older"]
    asked = [request for request in hub.requests if NAME in request.path]
    assert {request.token for request in asked} == {"hf_mine"}
    ranges = [request.range for request in asked if request.range]
    assert len(ranges) == 1 and not ranges[0].startswith("bytes=0-")

    assert pinned["source"]["revision"] == second
    assert pinned["labels"] == ["NEW", "newer"]


#: Settings, with a token where there is one, and what is said.
REFUSED: list[tuple[dict[str, str], list[str]]] = [
    ({"model_name": "org/nosuch"}, ["org/nosuch", "model_name", "HF_TOKEN"]),
    ({"model_name": "org/nosuch", "HF_TOKEN": "hf_mine"}, ["org/nosuch", "model_name"]),
    ({"model_name": "no such name!"}, ["no such name!", "model_name"]),
    ({"model_name": "./nosuch"}, ["nosuch", "model_name"]),
    ({"revision": "v9"}, [NAME, "no revision 'v9'", "correct revision"]),
    ({"revision": "0" * 40}, [NAME, "no revision '0000", "correct revision"]),
    ({"model_name": "org/private"}, ["org/private", "private", "HF_TOKEN"]),
    (
        {"model_name": "org/gated", "HF_TOKEN": "hf_mine"},
        ["org/gated is gated", "licence", "HF_TOKEN"],
    ),
    ({"HF_TOKEN": "hf_expired"}, [NAME, "refuses", "HTTP 401", "HF_TOKEN"]),
    ({"model_name": "org/broken"}, ["org/broken", "HTTP 503"]),
    ({"model_name": "org/no-hub"}, ["HF_ENDPOINT"]),
]


def test_what_is_refused(hub: Hub, machine: Machine, bert: Path) -> None:
    """By the Hub, by what is no Hub, or because there is no such folder."""
    hub.broken = {"org/broken": 503, "org/no-hub": 200}
    hub.add(NAME, bert)
    hub.add("org/private", bert, reader="hf_mine")
    hub.add("org/gated", bert, gated=True)
    runs = machine.exports(*(dict(settings) for settings, _ in REFUSED))
    for run, (_, words) in zip(runs, REFUSED, strict=True):
        sentence = refusal(run)
        for word in words:
            assert word in sentence
        assert "hf_" not in sentence
    assert str(machine.folder / "nosuch") in refusal(runs[3])
    assert all(word in refusal(runs[-2]) for word in unreachable(hub))
    assert hub.endpoint in refusal(runs[-1])
    assert not hub.downloads()


@pytest.mark.parametrize(
    "state", ["closed", "no room", pytest.param("offline", marks=pytest.mark.slow)]
)
def test_a_hub_out_of_reach_and_an_empty_cache(
    hub: Hub, machine: Machine, bert: Path, state: str
) -> None:
    hub.add(NAME, bert)
    variables: dict[str, str] = {}
    words = [NAME, *unreachable(hub)]
    if state == "closed":
        hub.stop()
        words.append("ConnectError")
    elif state == "offline":
        variables["HF_HUB_OFFLINE"] = "1"
        words = [NAME, "not in the local cache", "HF_HUB_OFFLINE", "unset it"]
    else:
        (machine.folder / "home").write_text("a file where the cache should be")
        words = [NAME, "cannot be stored", str(machine.folder / "home"), "HF_HOME"]
    sentence = refusal(machine.export(variables))
    for word in words:
        assert word in sentence


def unreachable(hub: Hub) -> list[str]:
    return [hub.endpoint, "check the network and HF_ENDPOINT", "local folder"]


def test_pickled_weights_only_where_the_config_allows_them(
    hub: Hub, machine: Machine, bert: Path
) -> None:
    torch.save(load_file(bert / "model.safetensors"), bert / "pytorch_model.bin")
    (bert / "model.safetensors").unlink()
    hub.add(NAME, bert)
    refused, *allowed = machine.exports({}, *[{"use_safetensors": False} for _ in range(2)])
    sentence = refusal(refused)
    assert '"use_safetensors": false' in sentence and NAME in sentence
    assert [run.bundle()["labels"] for run in allowed] == [["SAD", "SO-SO", "GLAD"]] * 2
    assert hub.downloads()["pytorch_model.bin"] == 1


def test_code_of_the_model_runs_only_where_the_config_trusts_it(
    hub: Hub, machine: Machine, bert: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    (bert / "own_code.py").write_text(MODELING.format(marker=str(marker)))
    auto_map = {
        "AutoConfig": "own_code.OwnConfig",
        "AutoModelForSequenceClassification": "own_code.OwnModel",
    }
    edit_json(bert / "config.json", model_type="own", auto_map=auto_map)
    hub.add(NAME, bert)
    sentence = refusal(machine.export())
    assert NAME in sentence and '"trust_remote_code": true' in sentence
    assert "own_code.py" not in hub.downloads()
    assert not marker.exists()

    run = machine.export(trust_remote_code=True)
    assert run.bundle()["labels"] == ["SAD", "SO-SO", "GLAD"]
    assert "trust_remote_code is set: Python code that comes with the model will run" in run.log
    assert marker.read_text() == "ran"


def test_a_cache_on_a_full_disk(hub: Hub, machine: Machine, bert: Path, tmp_path: Path) -> None:
    hub.add(NAME, bert)
    with disk(tmp_path / "small", 100) as place:
        said = refusal(machine.export({"HF_HOME": str(place)}))
    assert f"cannot be stored in the cache {place}" in said
    assert "No space left on device" in said
    assert "set HF_HOME to another folder" in said
