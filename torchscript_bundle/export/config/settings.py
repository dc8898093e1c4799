"""The keys of `setup_config.json` and their limits."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetPydanticSchema,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import core_schema

from torchscript_bundle.export.config.spelling import meant_mode
from torchscript_bundle.export.tasks import TASKS, Task
from torchscript_bundle.serving.artifact import FLOAT32, PRECISIONS, AnswerForm

#: TorchServe asks for its API key wherever a path contains `/token`, so a model of such a name
#: could not be described or scaled with the management key.
RESERVED = "token"


@dataclass(frozen=True)
class Batching:
    """Most requests in one call of a worker, and milliseconds that a request waits for others."""

    batch_size: int
    max_batch_delay: int


#: A lone request waits out the whole delay, so where latency counts it is the least that TorchServe
#: accepts: it reads 0 as its default, 100. The values for CPUs were measured (docs/speed.md), those
#: for GPUs were not: there, many rows take little longer than one.
BATCHING = {
    "cpu": {"latency": Batching(16, 1), "throughput": Batching(32, 10)},
    "cuda": {"latency": Batching(64, 1), "throughput": Batching(128, 10)},
}


def hub_spelling(mode: Any) -> Any:
    """Accept `sequence classification`, as the TorchServe example once wrote, and hyphens."""
    return re.sub("[ -]", "_", mode) if isinstance(mode, str) else mode


def safe_name(name: str) -> str:
    """Return a name that a served model can have, as near as possible; empty if nothing is left."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:100].lstrip("_.-")
    return f"model_{name}" if name.startswith(RESERVED) else name


def _known_mode(mode: str) -> str:
    if mode in TASKS:
        return mode
    meant = meant_mode(mode)
    hint = f'; did you mean "{meant}"?' if meant else ""
    raise ValueError(f"allowed: {', '.join(TASKS)}{hint}")


def _not_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("must be a whole number, not true or false")
    return value


def _default_batching(value: Any, info: ValidationInfo) -> Any:
    """Replace null by the value for the config's `device` and `optimize_for`."""
    kind = str(info.data.get("device", "cpu")).partition(":")[0]  # absent where they are wrong
    batching = BATCHING[kind][info.data.get("optimize_for", "latency")]
    return getattr(batching, str(info.field_name)) if value is None else value


ModeName = Annotated[
    str,
    BeforeValidator(hub_spelling),
    AfterValidator(_known_mode),
    WithJsonSchema({"type": "string", "enum": list(TASKS)}),
]
Int = Annotated[int, BeforeValidator(_not_boolean)]
#: A number, or null for the value of `BATCHING`.
Planned = Annotated[Int, BeforeValidator(_default_batching)]
Precision = Annotated[
    str, GetPydanticSchema(lambda *_: core_schema.literal_schema([*PRECISIONS, "auto"]))
]


class SetupConfig(BaseModel):
    """The model and how to serve it. Numbers may be strings, as in the TorchServe example's."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True
    )

    schema_: str | None = Field(None, alias="$schema")
    """JSON Schema of this file, for editors."""
    model_name: str = Field(min_length=1)
    """Hub model (`organisation/name`) or folder; a folder is looked for beside this file and starts
    with `./`, `../`, `~` or `/`."""
    revision: str | None = None
    """Branch, tag or commit of a Hub model."""
    adapter_name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    """Adapter (PEFT, such as LoRA) to merge, where model_name holds several in folders."""
    base_model: str | None = Field(None, min_length=1)
    """Hub model or folder that an adapter is merged into; null takes what the adapter names."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for authors you trust."""
    use_safetensors: bool = True
    """Load safetensors weights only; false also takes pickled weights."""
    mode: ModeName
    """The task."""
    save_mode: Literal["torchscript", "pretrained"] = "torchscript"
    """How the model is saved for the worker: traced, or as save_pretrained writes it, for workers
    that have transformers and for models that cannot be traced."""
    do_lower_case: bool | None = None
    """Lower-case the text; null leaves it to the tokenizer."""
    num_labels: Int | None = Field(None, ge=0)
    """Number of labels, checked against the model; null takes its own, and so does 0, which the
    TorchServe example writes for tasks without labels."""
    max_length: Int = Field(150, ge=4, le=100_000)
    """Longest text, in tokens, special tokens included."""
    traced_lengths: list[Int] = []
    """Further lengths to trace for a model that is exact only at traced lengths; max_length is
    always one."""
    on_too_long: Literal["truncate", "error"] = "truncate"
    """Answer to a text over max_length: from its first tokens, with `"truncated": true`, or 413."""
    answer_form: AnswerForm = "hugging_face"
    """Answers at /predictions and /explanations: those of Hugging Face's tasks, or byte for byte
    those of the TorchServe example, for clients that were written for it."""
    pooling: Literal["mean", "cls", "last"] | None = None
    """Feature extraction: which tokens make the vector; null takes what a sentence-transformers
    folder says, else mean."""
    normalize_embeddings: bool | None = None
    """Feature extraction: give vectors the length 1; null takes what a sentence-transformers folder
    says, else false."""
    truncate_dim: Int | None = Field(None, ge=1)
    """Feature extraction: keep the first numbers of each vector, for models trained for it
    (Matryoshka); null takes what a sentence-transformers folder says, else all."""
    default_prompt_name: str | None = None
    """Feature extraction: the model's prompt for requests without prompt_name, "" for none; null
    takes what a sentence-transformers folder says."""
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """Where the model is traced and verified: cpu, cuda or cuda:<number>."""
    artifacts_dir: str | None = None
    """Folder with index_to_name.json and sample requests; null takes the mode's own, beside this
    file."""
    archive_name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)
    """Name of the archive and of the served model; null takes adapter_name, else the last part of
    model_name."""
    optimize_for: Literal["latency", "throughput"] = "latency"
    """Goal by which workers, threads and null in batch_size and max_batch_delay are planned: a
    request soon answered, or many."""
    batch_size: Planned = Field(
        None, ge=1, le=1024, validate_default=True, json_schema_extra={"type": ["integer", "null"]}
    )
    """Most requests in one call of a worker, and rows in a batch; null takes what optimize_for
    needs on such a device."""
    max_batch_delay: Planned = Field(
        None,
        ge=1,
        le=60_000,
        validate_default=True,
        json_schema_extra={"type": ["integer", "null"]},
    )
    """How long a request waits for others (milliseconds; TorchServe takes 0 for 100); null takes
    what optimize_for needs."""
    padding: Literal["longest", "max_length"] = "longest"
    """How far rows are padded: to the longest of their batch, or all to max_length, as the
    TorchServe example does; for comparison."""
    max_client_batch: Int = Field(64, ge=1, le=10_000)
    """Most texts in one request."""
    response_timeout: Int = Field(120, ge=1, le=86_400)
    """A worker that answers later is restarted (seconds)."""
    max_call_seconds: float = Field(3.0, ge=0.1, le=3600)
    """Most seconds that the texts of one request, and the large requests of one call of a worker,
    may take, as estimated: what a small request waits for beside them."""
    startup_timeout: Int = Field(120, ge=1, le=86_400)
    """A worker that loads longer is restarted (seconds)."""
    packed_weights: bool = True
    """On CPUs, repack the weights of linear layers when a worker loads them: faster, and equal but
    for rounding."""
    precision: Precision = FLOAT32
    """Number format that workers compute in. A lower precision than float32 is tried beside it at
    export and refused where it changes answers; auto takes the fastest that passes."""
    calibration_file: str | None = None
    """Texts to try a precision on: a text file, one text or one JSON request a line, beside this
    file; null takes the sample requests of the artifacts folder."""
    captum_explanation: bool = False
    """Also explain answers, at /explanations; the worker then needs captum."""
    explanation_steps: Int = Field(50, ge=2, le=1000)
    """Most steps of an explanation, and how many it takes."""
    explanation_batch_size: Int = Field(16, ge=1, le=1024)
    """Most rows in one pass of an explanation."""
    max_batch_tokens: Int = Field(4096, ge=4, le=10_000_000)
    """Text generation: most tokens, texts and answers together, that the rows of a batch may hold;
    memory grows with it."""
    default_max_new_tokens: Int = Field(256, ge=1, le=100_000)
    """Text generation: most tokens of an answer whose request does not say."""

    _folder: Path = PrivateAttr(default=Path())
    _notes: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("traced_lengths")
    @classmethod
    def _lengths_fit(cls, lengths: list[int], others: ValidationInfo) -> list[int]:
        longest = others.data.get("max_length", max(lengths, default=4))
        wrong = [str(length) for length in lengths if not 4 <= length <= longest]
        if wrong:
            are = "is" if len(wrong) == 1 else "are"
            raise ValueError(f"{', '.join(wrong)} {are} not between 4 and max_length ({longest})")
        return lengths

    @field_validator("archive_name")
    @classmethod
    def _is_not_reserved(cls, name: str | None) -> str | None:
        if name and name.startswith(RESERVED):
            raise ValueError(
                f"TorchServe takes /models/{RESERVED}... for its keys; begin otherwise"
            )
        return name

    @property
    def task(self) -> Task:
        """The facts of the mode."""
        return TASKS[self.mode]

    @property
    def folder(self) -> Path:
        """The config file's folder, which its paths are relative to."""
        return self._folder

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what the config file asks for and does not get."""
        return self._notes

    @property
    def local_model(self) -> Path | None:
        """The model's folder if `model_name` is a path or names a folder, else None (the Hub)."""
        path = self._folder / Path(self.model_name).expanduser()
        looks_like_path = self.model_name.startswith(("./", "../", "/", "~"))
        return path if looks_like_path or path.is_dir() else None

    def for_base(self, name: str, revision: str | None) -> SetupConfig:
        """Return the same config of the model that an adapter is merged into."""
        changes = {"model_name": name, "revision": revision, "adapter_name": None}
        return self.model_copy(update={**changes, "base_model": None})

    @property
    def artifacts(self) -> Path:
        """The folder with labels and samples; it need not exist."""
        if self.artifacts_dir:
            return self._folder / self.artifacts_dir
        own = self._folder / self.task.artifacts_dir
        if self.task.older_artifacts_dir and not own.is_dir():
            older = self._folder / self.task.older_artifacts_dir
            return older if older.is_dir() else own
        return own

    @property
    def samples(self) -> list[str]:
        """The sample texts of the artifacts folder by file name, or a stock one."""
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
        if self.archive_name:
            return self.archive_name
        return safe_name(self.adapter_name or Path(self.model_name).name) or self.mode

    @property
    def lengths(self) -> tuple[int, ...]:
        """Lengths to trace where the length is static, ascending; the last is `max_length`."""
        return tuple(sorted({*self.traced_lengths, self.max_length}))

    def dump(self) -> str:
        """Return the normalised config as JSON: every key, numbers as numbers."""
        return json.dumps(self.model_dump(exclude={"schema_"}), indent=2, ensure_ascii=False) + "\n"
