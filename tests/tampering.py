"""Archives that somebody has tampered with: each function changes one in its place."""

from __future__ import annotations

import json
import stat
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from torchscript_bundle.export.archive_writer import writing_archive
from torchscript_bundle.sums import SUMS_FILE

Tamper = Callable[[Path], None]


def rewrite(
    path: Path,
    changes: Mapping[str, bytes | None],
    added: tuple[tuple[str | zipfile.ZipInfo, bytes], ...] = (),
    compression: int = zipfile.ZIP_STORED,
) -> None:
    """Write an archive anew with some members changed, removed (None) and added."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist()}
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", compression) as target:
        warnings.filterwarnings("ignore", "Duplicate name")
        for name, content in members.items():
            changed = changes.get(name, content)
            if changed is not None:
                target.writestr(name, changed)
        for entry, content in added:
            target.writestr(entry, content)


def resum(path: Path) -> None:
    """Make the list of digests anew, as whoever tampers with an archive can."""
    with zipfile.ZipFile(path) as source:
        members = {name: source.read(name) for name in source.namelist() if name != SUMS_FILE}
    with writing_archive(path) as target:
        for name, content in members.items():
            target.add(name, content)


def content(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as source:
        return source.read(name)


def changed(name: str, change: Callable[[bytes], bytes]) -> Tamper:
    return lambda path: rewrite(path, {name: change(content(path, name))})


def removed(name: str) -> Tamper:
    return lambda path: rewrite(path, {name: None})


def added(name: str, text: bytes = b"raise SystemExit('code that was added has run')") -> Tamper:
    return lambda path: rewrite(path, {}, ((name, text),))


def swap_labels(raw: bytes) -> bytes:
    bundle = json.loads(raw)
    return json.dumps({**bundle, "labels": bundle["labels"][::-1]}).encode()


def link(path: Path) -> None:
    entry = zipfile.ZipInfo("extra")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    rewrite(path, {}, ((entry, b"/etc/passwd"),))


def bomb(path: Path) -> None:
    """200 MB of zeros in 200 kB."""
    rewrite(path, {"samples.json": bytes(200_000_000)}, compression=zipfile.ZIP_DEFLATED)


def no_zip(path: Path) -> None:
    path.write_text("not a zip")


def cut(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def flipped(name: str) -> Tamper:
    """A bit of a member's data is another one, as on a failing disk."""

    def flip(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as source:
            entry = source.getinfo(name)
        raw[entry.header_offset + 30 + len(name) + entry.compress_size // 2] ^= 1
        path.write_bytes(raw)

    return flip


def many(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as target:
        for number in range(10_001):
            target.writestr(f"{number}", b"")


def lzma(path: Path) -> None:
    rewrite(path, {}, compression=zipfile.ZIP_LZMA)


HANDLER = "Transformer_handler_generalized.py"
CODE = "torchscript_bundle/serving/errors.py"
NOT_ITS_DIGEST = f"is not the one in {SUMS_FILE}"

#: What is done -> how, and what the refusal says.
TAMPERED: dict[str, tuple[Tamper, str]] = {
    "labels swapped": (changed("bundle.json", swap_labels), NOT_ITS_DIGEST),
    "code changed": (changed(CODE, lambda raw: raw + b"\nprint(1)\n"), NOT_ITS_DIGEST),
    "handler changed": (changed(HANDLER, lambda raw: raw + b"\nprint(1)\n"), NOT_ITS_DIGEST),
    "YAML changed": (
        changed("model-config.yaml", lambda raw: raw + b"minWorkers: 9\n"),
        NOT_ITS_DIGEST,
    ),
    "manifest changed": (
        changed("MAR-INF/MANIFEST.json", lambda raw: raw.replace(b"handler", b"nothing")),
        NOT_ITS_DIGEST,
    ),
    "samples changed": (changed("samples.json", lambda _: b'["other"]'), NOT_ITS_DIGEST),
    "digests changed": (changed(SUMS_FILE, lambda raw: raw[1:]), f"damaged {SUMS_FILE}"),
    "code added": (added("torchscript_bundle/serving/extra.py"), "not packed with it"),
    "sitecustomize.py added": (added("sitecustomize.py"), "not packed with it"),
    "requirements.txt added": (added("requirements.txt", b"other"), "not packed with it"),
    "a file removed": (removed("samples.json"), "has lost its file 'samples.json'"),
    "digests removed": (removed(SUMS_FILE), f"has lost its {SUMS_FILE}"),
    "a file twice": (added(CODE), "has two members"),
    "a link": (link, "no plain file, 'extra'"),
    "an absolute name": (added("/tmp/escaped.py"), "unsafe name, '/tmp/escaped.py'"),
    "a name outside": (added("../escaped.py"), "unsafe name, '../escaped.py'"),
    "a name with a backslash": (added("..\\escaped.py"), "unsafe name"),
    "a name with a line break": (added("a\nb.py"), "unsafe name, 'a\\nb.py'"),
    "a zip bomb": (bomb, "times its size"),
    "too many files": (many, "and an archive 10000 at most"),
    "another compression": (lzma, "packed in another way"),
    "cut off": (cut, "is damaged (File is not a zip file)"),
    "a bit changed": (flipped("samples.json"), "is damaged (Bad CRC-32 for file 'samples.json')"),
    "no zip at all": (no_zip, "is damaged (File is not a zip file)"),
}
