"""Signatures of archives: who has signed, by whatever program, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from torchscript_bundle.export.archive_writer import writing_archive
from torchscript_bundle.server import Demands
from torchscript_bundle.server.archives import ArchiveError, open_archive
from torchscript_bundle.server.signatures import PURPOSE, SignatureError, sign
from torchscript_bundle.sums import MANIFEST

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def openssl(*words: str | Path) -> str:
    """What openssl says; it must succeed."""
    command = ["openssl", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A new private key and its public one."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    form = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    private.write_bytes(key.private_bytes(*form))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.mar"
    with writing_archive(path) as target:
        target.add(MANIFEST, b"{}")
    return path


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "ours")


def check(archive: Path, signers: Path) -> None:
    """Raises where the archive is not signed."""
    with open_archive(archive, Demands(signed_by=signers)):
        pass


def test_what_was_signed_is_accepted_by_any_of_the_keys(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    assert sign(archive, private) == tmp_path / "reviews.mar.sig"
    check(archive, public)
    _, other = write_keys(tmp_path, "other")
    both = tmp_path / "both.pub"
    both.write_bytes(other.read_bytes() + public.read_bytes())
    check(archive, both)
    with pytest.raises(ArchiveError, match=r"reviews\.mar\.sig is no signature of .* by a key in"):
        check(archive, other)


def test_a_changed_archive_name_or_signature_is_refused(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    with pytest.raises(ArchiveError, match=r"has no signature.*torchscript-bundle sign"):
        check(archive, public)
    signature = sign(archive, private)
    renamed = tmp_path / "other.mar"
    shutil.copy(archive, renamed)
    shutil.copy(signature, tmp_path / "other.mar.sig")
    with pytest.raises(ArchiveError, match="the archive or its name was changed"):
        check(renamed, public)
    good = signature.read_bytes()
    for bad in (b"", good[:-1], good + b"x", bytes(64)):
        signature.write_bytes(bad)
        with pytest.raises(ArchiveError, match="is no signature"):
            check(archive, public)
    signature.write_bytes(good)
    check(archive, public)
    archive.write_bytes(archive.read_bytes() + b" ")
    with pytest.raises(ArchiveError, match="is no signature"):
        check(archive, public)


@needs_openssl
def test_openssl_checks_ours(archive: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    """As docs/security.md shows it."""
    signature = sign(archive, keys[0])
    line = subprocess.run(
        ["sha256sum", archive.name], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "statement").write_text(f"{PURPOSE}\n{line}")
    said = openssl(
        *("pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", keys[1]),
        *("-in", tmp_path / "statement", "-sigfile", signature),
    )
    assert "Signature Verified Successfully" in said


@needs_openssl
def test_we_check_what_openssl_made(archive: Path, tmp_path: Path) -> None:
    private, public = tmp_path / "key.pem", tmp_path / "key.pub"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    line = subprocess.run(
        ["sha256sum", archive.name], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    (tmp_path / "statement").write_text(f"{PURPOSE}\n{line}")
    openssl(
        *("pkeyutl", "-sign", "-rawin", "-inkey", private, "-in", tmp_path / "statement"),
        *("-out", tmp_path / "reviews.mar.sig"),
    )
    check(archive, public)
    made = (tmp_path / "reviews.mar.sig").read_bytes()
    assert sign(archive, private).read_bytes() == made


def test_keys_of_other_kinds_are_told(
    archive: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    rsa = tmp_path / "rsa.key"
    form = Encoding.PEM, PrivateFormat.PKCS8
    rsa.write_bytes(generate_private_key(65537, 2048).private_bytes(*form, NoEncryption()))
    locked = tmp_path / "locked.key"
    encryption = BestAvailableEncryption(b"secret")
    locked.write_bytes(Ed25519PrivateKey.generate().private_bytes(*form, encryption))
    for path, says in (
        (public, "no private Ed25519 key"),
        (rsa, "no private Ed25519 key"),
        (archive, "no private Ed25519 key"),
        (locked, "is encrypted"),
    ):
        with pytest.raises(SignatureError, match=says):
            sign(archive, path)
    assert not (tmp_path / "reviews.mar.sig").exists()
    sign(archive, private)
    for path in (private, rsa, archive):
        with pytest.raises(ArchiveError, match="must hold public Ed25519 keys in PEM"):
            check(archive, path)
