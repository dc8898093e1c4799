"""The artifact's contract between export and serving.

An artifact is a folder (or an unpacked archive) with the files named below. `bundle.json` describes
the others and holds their sha256, so that a worker refuses changed or mixed-up files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast, get_args

from torchscript_bundle.serving.errors import ArtifactError

FORMAT_VERSION = 4
BUNDLE_FILE = "bundle.json"
MODULE_FILE = "traced_model.pt"
TOKENIZER_FILE = "tokenizer.json"
CONFIG_FILE = "setup_config.json"
#: An archive's OpenAPI document.
API_FILE = "openapi.json"
#: An archive's request bodies to try it with, a JSON list of texts.
SAMPLES_FILE = "samples.json"
#: Ranges of the inputs of linear layers, for int8.
CALIBRATION_FILE = "calibration.json"
#: Output of `save_pretrained`: in a folder, a model's file shadows neither ours nor, as Python
#: code, a package of the worker.
PRETRAINED_FOLDER = "pretrained_model"
#: Save mode -> the file that every such artifact has.
MODEL_FILES = {"torchscript": MODULE_FILE, "pretrained": f"{PRETRAINED_FOLDER}/config.json"}


#: Most explanations that a worker has at once, beside the requests of a batch.
MOST_EXPLANATIONS = 8
#: Most open requests of a generative model, per row of a batch.
REQUESTS_PER_ROW = 8
#: Further requests for such a worker to refuse.
REFUSED_AT_ONCE = 100
#: Keys that older artifacts of this format lack -> their values there.
ADDED: dict[str, object] = {"pairs": None, "answer_form": "hugging_face"}

#: What answers to the native protocol look like: those of Hugging Face's tasks, or the bytes that
#: TorchServe's Hugging Face example sent.
AnswerForm = Literal["hugging_face", "torchserve_example"]

REMAKE = "make the artifact again with download_Transformer_models.py"


@dataclass(frozen=True)
class Precision:
    """A precision that workers may compute in; `engine/precisions.py` has its builders.

    Attributes:
        devices: kinds of device that have it; the quality gate tries it there.
        tolerance: largest difference from float32, relative to an output's largest value. It
            catches errors; the gate decides whether a model's answers bear the precision.
        graph_tolerance: the same of a CUDA graph and the captured module.
        calibrated: whether it needs `CALIBRATION_FILE`.
    """

    devices: tuple[str, ...]
    tolerance: float
    graph_tolerance: float = 0.0
    calibrated: bool = False


#: The precision of saved weights, and of workers that cannot compute in another.
FLOAT32 = "float32"
INT8 = "int8"
#: Every precision. float32 only orders sums otherwise; float16 has 11 significant bits, bfloat16 8,
#: and a deep model adds up the loss of each layer.
PRECISIONS = {
    FLOAT32: Precision(("cpu", "cuda"), tolerance=1e-5, graph_tolerance=1e-5),
    "bfloat16": Precision(("cpu", "cuda"), tolerance=1e-1, graph_tolerance=5e-2),
    "float16": Precision(("cuda",), tolerance=5e-2, graph_tolerance=1e-2),
    INT8: Precision(("cpu",), tolerance=0.5, calibrated=True),
}


def lower_precisions(device: str) -> tuple[str, ...]:
    """Return the precisions below float32 that a kind of device has."""
    return tuple(
        name for name, each in PRECISIONS.items() if name != FLOAT32 and device in each.devices
    )


@dataclass(frozen=True)
class Padding:
    """The padding of a row that is shorter than its batch."""

    side: Literal["left", "right"]
    token_id: int
    type_id: int


@dataclass(frozen=True)
class Output:
    """A member of `forward`'s tuple: `[batch, ...]`, or `[batch, length, ...]` if `per_token`.

    With `special`, a role of `Bundle.special_ids`, it is `[tokens, ...]`: an entry for each such
    token of the batch, row by row.
    """

    name: str
    per_token: bool = False
    special: str | None = None


@dataclass(frozen=True)
class Layer:
    """A layer at which attributions start, by the methods that take a module apart there.

    Attributes:
        embed: returns the layer's outputs, float `[batch, length, dim]`.
        forward: returns the module's outputs for those and `Bundle.inputs`.
        embeds_ids: whether `embed` takes the ids alone, instead of all inputs.
    """

    embed: str
    forward: str
    embeds_ids: bool

    def run(self, module: Any, inputs: tuple[Any, ...], ids: int) -> Any:
        """Return the layer's outputs for tensors of which `ids` is the index of `input_ids`."""
        arguments = (inputs[ids],) if self.embeds_ids else inputs
        return getattr(module, self.embed)(*arguments)


#: The embeddings of tokens alone.
TOKEN_LAYER = Layer("embed", "forward_embeddings", embeds_ids=True)
#: All that a model embeds (tokens, positions, types, their norm): where TorchServe's example began.
EXAMPLE_LAYER = Layer("example_embed", "example_forward", embeds_ids=False)


@dataclass(frozen=True)
class Bundle:
    """`bundle.json`: everything serving needs to know about the module beside it.

    Attributes:
        mode: the task, a key of `serving.modes.MODES`.
        inputs: names of `forward`'s arguments in order, each int64 `[batch, length]`.
        labels: label of each class, by index.
        mode_options, save_options: facts that only this mode's code or save mode's loader reads.
        save_mode: a key of `MODEL_FILES`.
        min_length: shortest verified length (tokens); shorter rows are padded to it.
        max_length: longest row (tokens), special tokens included.
        traced_lengths: lengths that `forward` accepts if `dynamic_length` is false, ascending.
        dynamic_batch: any number of rows was exact; otherwise `forward` accepts exactly one row.
        dynamic_length: any length from `min_length` to `max_length` was exact.
        reads_padding: padding changes the answer in spite of the mask; rows of such a module are
            never padded, so its length is dynamic.
        explanations: the module also has the methods of `TOKEN_LAYER`, with gradients; in the
            answer form of TorchServe's example those of `EXAMPLE_LAYER` as well.
        pairs: rows of two texts were verified; None in an artifact older than this key.
        answer_form: of requests in the native protocol; others always get Hugging Face's.
        precision: of a worker that can compute in it; saved weights are always float32.
        truncation_side: which end of a text that is too long is cut.
        special_ids: ids of the tokenizer's special tokens by role.
        versions: of the packages that made the artifact.
        source: model name and revision (a commit, or None for a local folder).
        sha256, sizes: digest and bytes of each other file, by its path in the folder.
        verification, quality: reports for people of the proof, and of a precision below float32.
    """

    format_version: int
    mode: str
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    labels: tuple[str, ...]
    mode_options: dict[str, Any]
    save_mode: str
    save_options: dict[str, Any]
    min_length: int
    max_length: int
    traced_lengths: tuple[int, ...]
    dynamic_batch: bool
    dynamic_length: bool
    reads_padding: bool
    explanations: bool
    precision: str
    padding: Padding
    truncation_side: Literal["left", "right"]
    special_ids: dict[str, int]
    versions: dict[str, str]
    source: dict[str, str | None]
    pairs: bool | None = None
    answer_form: AnswerForm = "hugging_face"
    sha256: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    verification: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)

    @property
    def mixes_lengths(self) -> bool:
        """Whether rows of different lengths may be padded to one batch."""
        return self.dynamic_length and not self.reads_padding

    def dump(self, folder: Path) -> None:
        """Write `bundle.json` into `folder`."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False)
        (folder / BUNDLE_FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> Bundle:
        """Read `bundle.json`; raise ArtifactError if missing, of another version or incomplete."""
        path = folder / BUNDLE_FILE
        raw = {**ADDED, **read_json_object(path)}
        version = raw.get("format_version")
        if version != FORMAT_VERSION:
            raise ArtifactError(
                f"{path}: format_version is {version!r}, this code reads {FORMAT_VERSION}; {REMAKE}"
            )
        known = _known_keys(Bundle, raw, path)
        if raw["save_mode"] not in [*MODEL_FILES]:
            raise ArtifactError(
                f"{path}: save_mode {raw['save_mode']!r} is not served; known are "
                f"{', '.join(MODEL_FILES)}; {REMAKE}"
            )
        if raw["answer_form"] not in get_args(AnswerForm):
            raise ArtifactError(
                f"{path}: answer_form {raw['answer_form']!r} is not served; known are "
                f"{', '.join(get_args(AnswerForm))}; {REMAKE}"
            )
        readers: dict[str, Callable[[Any], object]] = {
            "padding": lambda value: Padding(**value),
            "inputs": tuple,
            "outputs": lambda value: tuple(Output(**each) for each in value),
            "labels": tuple,
            "traced_lengths": tuple,
        }
        for name, read in readers.items():
            try:
                known[name] = read(known[name])
            except TypeError as error:
                raise ArtifactError(f"{path}: {name}: {error}; {REMAKE}") from error
        return Bundle(**known)

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that `bundle.json` describes, those of every artifact first."""
        needed = (MODEL_FILES[self.save_mode], TOKENIZER_FILE, CONFIG_FILE)
        return tuple(dict.fromkeys((*needed, *self.sha256)))

    def check_files(self, folder: Path) -> None:
        """Raise ArtifactError if a file is missing or differs from its digest in `bundle.json`."""
        for name in self.files:
            path = folder / name
            if not path.is_file():
                raise ArtifactError(f"{path} is missing; {REMAKE}")
            if file_sha256(path) != self.sha256.get(name):
                raise ArtifactError(
                    f"{path} is not the file that {BUNDLE_FILE} describes (sha256 differs); "
                    f"{REMAKE}, then the archive"
                )


@dataclass(frozen=True)
class ServingOptions:
    """The part of the normalised `setup_config.json` that a worker reads."""

    batch_size: int
    max_client_batch: int
    response_timeout: int
    max_call_seconds: float
    explanation_steps: int
    explanation_batch_size: int
    on_too_long: Literal["truncate", "error"]
    packed_weights: bool
    padding: Literal["longest", "max_length"]

    @staticmethod
    def load(folder: Path) -> ServingOptions:
        """Read the options; raise ArtifactError if the file is missing or lacks a key."""
        path = folder / CONFIG_FILE
        return ServingOptions(**_known_keys(ServingOptions, read_json_object(path), path))


def _known_keys(
    contract: type[Bundle | ServingOptions], raw: dict[str, Any], path: Path
) -> dict[str, Any]:
    """Return the members that a contract names; raise ArtifactError where one is missing."""
    names = [each.name for each in fields(contract)]
    missing = [name for name in names if name not in raw]
    if missing:
        raise ArtifactError(f"{path}: no key {', '.join(missing)}; {REMAKE}")
    return {name: raw[name] for name in names}


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of the artifact; raise ArtifactError if there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} is missing; {REMAKE}") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON ({error}); {REMAKE}") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} is not a JSON object; {REMAKE}")
    return cast(dict[str, Any], value)
