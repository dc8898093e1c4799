"""The keys that clients send, each with a name and a scope, read again when their file changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchscript_bundle.server.state import ServerError

#: The environment variable with the same content as a file of keys.
VARIABLE = "TORCHSCRIPT_BUNDLE_KEYS"
#: The file in the run directory where no keys are given.
OWN_FILE = "keys.json"
SCOPES = ("inference", "management")
#: Shorter ones can be guessed.
LEAST_LENGTH = 16
EXAMPLE = '[{"name": "team-a", "key": "...", "scope": "inference"}]'


@dataclass(frozen=True)
class Key:
    """The digest of a key: its name for logs, and what it opens."""

    name: str
    scope: str
    digest: bytes


class Keys:
    """Knows the valid keys; compares digests in constant time, and every one of them."""

    def __init__(self, path: Path | None, *, required: bool = True) -> None:
        self.path = path
        self.required = required
        self._stamp: tuple[int, int] | None = None
        self._keys: tuple[Key, ...] = ()
        self.refresh()

    def refresh(self) -> bool:
        """Read the keys anew if their file has changed; return whether it has.

        ServerError: they are not what a file of keys has; those of before stay valid.
        """
        if not self.required:
            return False
        if self.path is None:
            if self._stamp is None:
                self._keys = parse(os.environ.get(VARIABLE, ""), VARIABLE)
                self._stamp = (0, 0)
            return False
        try:
            found = self.path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp == self._stamp:
                return False
            self._stamp = stamp
            self._keys = parse(self.path.read_text("utf-8"), str(self.path))
        except (OSError, UnicodeDecodeError) as error:
            raise ServerError(f"{self.path}: the keys cannot be read ({error})") from error
        return True

    def owner(self, authorization: str, scope: str) -> str | None:
        """Return the name of the key in an Authorization header, None if none of the scope fits."""
        scheme, _, key = authorization.partition(" ")
        digest = _digest(key.strip())
        # Each is compared, so that the time does not tell which one is near.
        fits = [
            each.name
            for each in self._keys
            if hmac.compare_digest(each.digest, digest) and each.scope == scope
        ]
        return fits[0] if fits and scheme.lower() == "bearer" else None


def open_keys(path: Path | None, run_dir: Path, *, required: bool) -> Keys:
    """Return the keys of a file, else of the environment, else own ones in the run directory."""
    if path is None and VARIABLE not in os.environ:
        path = run_dir / OWN_FILE
        if required and not path.exists():
            run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = [
                {"name": name, "key": secrets.token_urlsafe(32), "scope": scope}
                for name, scope in (("default", "inference"), ("operator", "management"))
            ]
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                json.dump(made, file, indent=2)
    return Keys(path, required=required)


def parse(text: str, source: str) -> tuple[Key, ...]:
    """Read keys; ServerError names the source and what is wrong, never a key."""
    try:
        listed = json.loads(text)
    except ValueError as error:
        raise ServerError(f"{source} is no JSON; it should be like {EXAMPLE}") from error
    if not isinstance(listed, list) or not listed:
        raise ServerError(f"{source} should be a list of keys like {EXAMPLE}")
    return tuple(_read(entry, f"{source}, entry {at}") for at, entry in enumerate(listed))


def _read(entry: Any, where: str) -> Key:
    if not isinstance(entry, dict) or entry.keys() - {"name", "key", "scope"}:
        raise ServerError(f"{where} should have a name, a key and a scope, like {EXAMPLE}")
    name, key, scope = (entry.get(field) for field in ("name", "key", "scope"))
    if not isinstance(name, str) or (
        not name.isidentifier() and not name.replace("-", "").isalnum()
    ):
        raise ServerError(f"{where}: the name should be of letters, digits, - and _")
    if not isinstance(key, str) or len(key) < LEAST_LENGTH or not key.isascii():
        raise ServerError(f"{where}: the key should have at least {LEAST_LENGTH} ASCII characters")
    if scope not in SCOPES:
        raise ServerError(f"{where}: the scope should be one of {', '.join(SCOPES)}")
    return Key(name, scope, _digest(key))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
