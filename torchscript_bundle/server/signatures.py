"""Detached signatures of archives: Ed25519, which openssl makes and checks as well.

What is signed is a text of two lines, not the archive: Ed25519 needs the whole of it in memory.
The first says what the signature is for, so that one made for another purpose is none of an
archive; the second is what `sha256sum` prints, so that an archive under another name has none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from torchscript_bundle.serving.artifact import file_sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

PURPOSE = "torchscript-bundle archive"
#: Appended to the archive's name.
SUFFIX = ".sig"
PUBLIC_KEY = re.compile(rb"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----\n?", re.DOTALL)


class SignatureError(Exception):
    """A signature or a key is missing or wrong; the message is one sentence with the fix."""


def sign(archive: Path, key: Path) -> Path:
    """Sign an archive with the private key in a PEM file; return the file of the signature."""
    private = _read_private(key)
    signature = private.sign(statement(archive.name, file_sha256(archive)))
    signed = signature_of(archive)
    signed.write_bytes(signature)
    return signed


def check_signature(archive: Path, sha256: str, signers: Path) -> None:
    """Raise SignatureError if no public key of a PEM file has signed an archive of that digest."""
    from cryptography.exceptions import InvalidSignature

    keys, path = _read_public(signers), signature_of(archive)
    if not path.exists():
        raise SignatureError(
            f"{archive} has no signature, which is demanded: {path} is not there; "
            f"`torchscript-bundle sign {archive} --key FILE` makes it"
        )
    signature = _read(path)
    for key in keys:
        try:
            return key.verify(signature, statement(archive.name, sha256))
        except InvalidSignature:
            continue
    raise SignatureError(
        f"{path} is no signature of {archive} by a key in {signers}: the archive or its name was "
        "changed after it was signed, or another key has signed it"
    )


def statement(name: str, sha256: str) -> bytes:
    """Return what is signed for an archive of a name and digest."""
    return f"{PURPOSE}\n{sha256}  {name}\n".encode()


def signature_of(archive: Path) -> Path:
    """Return where an archive's signature lies: beside it."""
    return archive.with_name(archive.name + SUFFIX)


def _read_private(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path), password=None)
    except TypeError as error:
        raise SignatureError(
            f"{path} is encrypted; write it anew without a passphrase: openssl pkey -in {path}"
        ) from error
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(
            f"{path} is no private Ed25519 key in PEM; `openssl genpkey -algorithm ed25519 -out "
            "FILE` makes one"
        )
    return key


def _read_public(path: Path) -> list[Ed25519PublicKey]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        found = [load_pem_public_key(each) for each in PUBLIC_KEY.findall(_read(path))]
    except (ValueError, UnsupportedAlgorithm):
        found = []
    keys = [each for each in found if isinstance(each, Ed25519PublicKey)]
    if not keys or len(keys) < len(found):
        raise SignatureError(
            f"{path} must hold public Ed25519 keys in PEM and no others; `openssl pkey -in KEY "
            "-pubout -out FILE` writes that of a private key"
        )
    return keys


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SignatureError(f"{path} cannot be read ({error.strerror})") from error
