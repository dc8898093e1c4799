"""`setup_config.json`: its keys, their limits, and what is said about a wrong one."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from torchscript_bundle.export.errors import ExportError
from torchscript_bundle.export.modes import MODES
from torchscript_bundle.export.modes.base import Writes
from torchscript_bundle.export.naming import RESERVED, read_config, served_name

#: Keys of the TorchServe example that name things transformers and torch no longer have.
REPLACED = {
    "FasterTransformer": "torch's own fused attention is always used",
    "BetterTransformer": "torch's own fused attention is always used",
    "model_parallel": "the whole model runs on each worker's device; start more workers instead",
}

#: Precisions that workers have on one kind of device alone.
ONLY_ON = {"float16": "cuda", "int8": "cpu"}

#: The least max_length of a model that writes: what its proof needs for its texts and answers.
SHORTEST_WRITTEN = 16


def _known_mode(mode: str) -> str:
    if mode not in MODES:
        raise ValueError(f"allowed: {', '.join(MODES)}")
    return mode


def _underscored(mode: Any) -> Any:
    """The TorchServe example once wrote `sequence classification`."""
    return mode.replace(" ", "_") if isinstance(mode, str) else mode


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a whole number, not true or false")
    return value


@dataclass(frozen=True)
class Batching:
    """How requests share calls of a worker, where the config does not say.

    Attributes:
        batch_size: most requests in one call.
        max_batch_delay: how long one waits for others (milliseconds).
    """

    batch_size: int
    max_batch_delay: int


#: A request that is alone waits out the delay, so where latency counts it is the least there is:
#: TorchServe reads 0 as its default, 100. Those of CPUs were measured
#: (docs/speed.md). Those of GPUs were not: there, many rows take little longer than one.
BATCHING = {
    "cpu": {"latency": Batching(16, 1), "throughput": Batching(32, 10)},
    "cuda": {"latency": Batching(64, 1), "throughput": Batching(128, 10)},
}


def _planned(value: Any, info: ValidationInfo) -> Any:
    """What `device` and `optimize_for` make of null."""
    kind = str(info.data.get("device", "cpu")).partition(":")[0]  # absent where they are wrong
    planned = BATCHING[kind][info.data.get("optimize_for", "latency")]
    return getattr(planned, str(info.field_name)) if value is None else value


ModeName = Annotated[
    str,
    BeforeValidator(_underscored),
    AfterValidator(_known_mode),
    WithJsonSchema({"type": "string", "enum": list(MODES)}),
]
Int = Annotated[int, BeforeValidator(_not_boolean)]
#: A number, or null for what `optimize_for` makes of it.
Planned = Annotated[Int, BeforeValidator(_planned)]


class SetupConfig(BaseModel):
    """What to serve and how. Numbers may be strings, as in the TorchServe example's files."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    schema_: str | None = Field(
        None, alias="$schema", description="JSON Schema of this file, for editors."
    )
    model_name: str = Field(
        min_length=1,
        description="Hub model (`organisation/name`) or folder; a folder is looked for beside "
        "this file and starts with `./`, `../`, `~` or `/`.",
    )
    revision: str | None = Field(None, description="Branch, tag or commit of a Hub model.")
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the model. Only for authors you trust."
    )
    use_safetensors: bool = Field(
        True, description="Load safetensors weights only; false also takes pickled weights."
    )
    mode: ModeName = Field(description="The task.")
    save_mode: Literal["torchscript", "pretrained"] = Field(
        "torchscript",
        description="How the model is saved for the worker: traced, or as save_pretrained writes "
        "it, for workers that have transformers and for models that cannot be traced.",
    )
    do_lower_case: bool | None = Field(
        None, description="Lower-case the text; null leaves it to the tokenizer."
    )
    num_labels: Int | None = Field(
        None,
        ge=0,
        description="Number of labels, checked against the model; null takes its own, and so does "
        "0, which the TorchServe example writes for tasks without labels.",
    )
    max_length: Int = Field(
        150, ge=4, le=100_000, description="Longest text, in tokens, special tokens included."
    )
    traced_lengths: list[Int] = Field(
        [],
        description="Further lengths to trace for a model that is exact only at traced lengths; "
        "max_length is always one.",
    )
    on_too_long: Literal["truncate", "error"] = Field(
        "truncate",
        description="What a text over max_length gets: its first tokens classified and "
        '`"truncated": true`, or a 413.',
    )
    pooling: Literal["mean", "cls", "last"] | None = Field(
        None,
        description="Feature extraction: which tokens make the vector; null takes what a "
        "sentence-transformers folder says, else mean.",
    )
    normalize_embeddings: bool | None = Field(
        None,
        description="Feature extraction: give vectors the length 1; null takes what a "
        "sentence-transformers folder says, else false.",
    )
    device: str = Field(
        "cpu",
        pattern=r"^(cpu|cuda(:\d+)?)$",
        description="Where the model is traced and verified: cpu, cuda or cuda:<number>.",
    )
    artifacts_dir: str | None = Field(
        None,
        description="Folder with index_to_name.json and sample requests; null takes the mode's "
        "own, beside this file.",
    )
    archive_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=100,
        description="Name of the archive and of the served model; null takes the last part of "
        "model_name.",
    )
    optimize_for: Literal["latency", "throughput"] = Field(
        "latency",
        description="What workers, threads and null in batch_size and max_batch_delay are planned "
        "for: a request soon answered, or many.",
    )
    batch_size: Planned = Field(
        None,
        ge=1,
        le=1024,
        validate_default=True,
        json_schema_extra={"type": ["integer", "null"]},
        description="Most requests in one call of a worker, and rows in a batch; null takes what "
        "optimize_for needs on such a device.",
    )
    max_batch_delay: Planned = Field(
        None,
        ge=1,
        le=60_000,
        validate_default=True,
        json_schema_extra={"type": ["integer", "null"]},
        description="How long a request waits for others (milliseconds; TorchServe takes 0 for "
        "100); null takes what optimize_for needs.",
    )
    padding: Literal["longest", "max_length"] = Field(
        "longest",
        description="How far rows are padded: to the longest of their batch, or all to max_length, "
        "as the TorchServe example does; for comparison.",
    )
    max_client_batch: Int = Field(64, ge=1, le=10_000, description="Most texts in one request.")
    response_timeout: Int = Field(
        120, ge=1, le=86_400, description="A worker that answers later is restarted (seconds)."
    )
    max_call_seconds: float = Field(
        3.0,
        ge=0.1,
        le=3600,
        description="Most seconds that the texts of one request, and the large requests of one "
        "call of a worker, may take, as estimated: what a small request waits for beside them.",
    )
    startup_timeout: Int = Field(
        120, ge=1, le=86_400, description="A worker that loads longer is restarted (seconds)."
    )
    packed_weights: bool = Field(
        True,
        description="On CPUs, repack the weights of linear layers when a worker loads them: "
        "faster, and equal but for rounding.",
    )
    precision: Literal["float32", "bfloat16", "float16", "int8", "auto"] = Field(
        "float32",
        description="What workers compute in. A lower precision than float32 is tried beside it at "
        "export and refused where it changes answers; auto takes the fastest that passes.",
    )
    calibration_file: str | None = Field(
        None,
        description="What precision is tried on: a text file, one text or one JSON request a line, "
        "beside this file; null takes the sample requests of the artifacts folder.",
    )
    captum_explanation: bool = Field(
        False, description="Also explain answers, at /explanations; the worker then needs captum."
    )
    explanation_steps: Int = Field(
        50, ge=2, le=1000, description="Most steps of an explanation, and how many it takes."
    )
    explanation_batch_size: Int = Field(
        16, ge=1, le=1024, description="Most rows in one pass of an explanation."
    )
    max_batch_tokens: Int = Field(
        4096,
        ge=4,
        le=10_000_000,
        description="Text generation: most tokens, texts and answers together, that the rows of a "
        "batch may hold; memory grows with it.",
    )
    default_max_new_tokens: Int = Field(
        256,
        ge=1,
        le=100_000,
        description="Text generation: most tokens of an answer whose request does not say.",
    )
    embedding_name: str | None = Field(None, description="Accepted; nothing needs it any more.")
    FasterTransformer: bool = Field(False, description="Accepted; " + REPLACED["FasterTransformer"])
    BetterTransformer: bool = Field(False, description="Accepted; " + REPLACED["BetterTransformer"])
    model_parallel: bool = Field(False, description="Accepted; " + REPLACED["model_parallel"])

    _folder: Path = PrivateAttr(default=Path())

    @field_validator("traced_lengths")
    @classmethod
    def _lengths_fit(cls, lengths: list[int], others: ValidationInfo) -> list[int]:
        longest = others.data.get("max_length", max(lengths, default=4))
        for length in lengths:
            if not 4 <= length <= longest:
                raise ValueError(f"{length} is not between 4 and max_length ({longest})")
        return lengths

    @model_validator(mode="after")
    def _settings_of_the_mode(self) -> SetupConfig:
        """Refuses a key that only other modes read."""
        own = MODES[self.mode].settings
        for key in {key: None for mode in MODES.values() for key in mode.settings}:
            default = type(self).model_fields[key].default
            if key not in own and getattr(self, key) != default:
                readers = " and ".join(name for name in MODES if key in MODES[name].settings)
                raise ValueError(f"{key} is for the mode {readers}; remove it for {self.mode}")
        return self

    @model_validator(mode="after")
    def _can_be_written(self) -> SetupConfig:
        """Refuses what a model that writes cannot do."""
        mode = MODES[self.mode]
        if not isinstance(mode, Writes):
            return self
        if self.save_mode != "torchscript":
            raise ValueError(
                f'save_mode: {self.mode} is served from the traced file alone; set it to "torchscri'
                'pt"'
            )
        if self.precision not in mode.precisions:
            raise ValueError(
                f"precision: {self.mode} is served in {' or '.join(mode.precisions)}, not in "
                f"{self.precision}"
            )
        if self.padding != "longest":
            raise ValueError(f'padding: {self.mode} has no other than "longest"')
        if self.max_length < SHORTEST_WRITTEN:
            raise ValueError(
                f"max_length is {self.max_length}; {self.mode} needs at least {SHORTEST_WRITTEN}, "
                "for a text and its answer"
            )
        needed = mode.request_tokens(self.max_length)
        if self.max_batch_tokens < needed:
            raise ValueError(
                f"max_batch_tokens is {self.max_batch_tokens}, and one request may hold {needed} "
                f"(max_length {self.max_length}); raise it, or lower max_length"
            )
        return self

    @model_validator(mode="after")
    def _can_have_the_precision(self) -> SetupConfig:
        """Refuses a precision that workers of this config could not have."""
        asked = self.precision
        if asked == "float32":
            return self
        device = ONLY_ON.get(asked, self.device.partition(":")[0])
        needed = {"save_mode": "torchscript", "packed_weights": True, "device": device}
        for key, value in needed.items():
            mine = getattr(self, key)
            if mine != value and not (key == "device" and mine.startswith(device)):
                raise ValueError(
                    f'precision: "{asked}" needs {key} {json.dumps(value)}, and it is '
                    f'{json.dumps(mine)}; change one of the two ("float32" works everywhere)'
                )
        return self

    @model_validator(mode="after")
    def _has_something_to_explain(self) -> SetupConfig:
        if self.captum_explanation and not MODES[self.mode].explained:
            raise ValueError(
                f"captum_explanation: answers of {self.mode} have no score to explain; set it to "
                "false"
            )
        return self

    @field_validator("archive_name")
    @classmethod
    def _is_not_reserved(cls, name: str | None) -> str | None:
        if name and name.startswith(RESERVED):
            raise ValueError(
                f"TorchServe takes /models/{RESERVED}... for its keys; begin otherwise"
            )
        return name

    @property
    def folder(self) -> Path:
        """The folder that paths in the config are relative to: the config file's own."""
        return self._folder

    @property
    def local_model(self) -> Path | None:
        """The model's folder if `model_name` is a path or names a folder, else None (the Hub)."""
        path = self._folder / Path(self.model_name).expanduser()
        looks_like_path = self.model_name.startswith(("./", "../", "/", "~"))
        return path if looks_like_path or path.is_dir() else None

    @property
    def artifacts(self) -> Path:
        """The folder with labels and samples; it need not exist."""
        return self._folder / (self.artifacts_dir or MODES[self.mode].artifacts_dir)

    @property
    def samples(self) -> list[str]:
        """The sample texts of the artifacts folder, by file name; a stock one if it has none."""
        files = sorted(self.artifacts.glob("sample_text*.txt"))
        return [path.read_text(encoding="utf-8").strip() for path in files] or ["It works."]

    @property
    def calibration(self) -> Path | None:
        """The file of texts that a lower precision is tried on; None for the samples."""
        name = self.calibration_file
        return self._folder / Path(name).expanduser() if name else None

    @property
    def served_name(self) -> str:
        """Name of the archive and of the model in TorchServe's URLs."""
        return served_name(self.archive_name, self.model_name, self.mode)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths to trace where the length is static, ascending; the last is `max_length`."""
        return tuple(sorted({*self.traced_lengths, self.max_length}))

    def dump(self) -> str:
        """The config normalised: every key, numbers as numbers."""
        return json.dumps(self.model_dump(exclude={"schema_"}), indent=2, ensure_ascii=False) + "\n"


def load_config(path: Path) -> SetupConfig:
    """Reads and validates a config file.

    Raises:
        ExportError: no such file, not a JSON object, or keys that are wrong: a line for each, all
            at once.
    """
    raw = read_config(path)
    try:
        config = SetupConfig.model_validate(raw)
    except ValidationError as error:
        raise ExportError("\n".join(_describe(path, fault) for fault in error.errors())) from error
    config._folder = path.resolve().parent
    return config


def _describe(path: Path, fault: ErrorDetails) -> str:
    """One line for one fault: the file, the key and what is allowed."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        names = [f.alias or name for name, f in SetupConfig.model_fields.items()]
        close = difflib.get_close_matches(key, names, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(names)}"
        return f"{path}: {key}: unknown key; {hint}"
    if fault["type"] == "missing":
        description = SetupConfig.model_fields[key].description
        return f"{path}: {key}: missing; {description}"
    message = fault["msg"].removeprefix("Value error, ")
    if not key:
        return f"{path}: {message}"
    return f"{path}: {key}: {message} (got {json.dumps(fault['input'])[:80]})"


def json_schema() -> str:
    """The JSON Schema that `setup_config.json` refers to."""
    schema = SetupConfig.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
