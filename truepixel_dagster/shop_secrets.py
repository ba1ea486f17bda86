"""Shops' own webhook secrets: stored encrypted in MongoDB, or read from mounted files.

Webhooks created in a store's admin are signed with that store's own secret. MongoDB stores it together with its shop,
encrypted with a key that is not in MongoDB (Fernet: AES-128-CBC with an HMAC), so that nobody who can write to MongoDB
can assign one shop's secret to another. Or MongoDB stores only the name of a file in `TRUEPIXEL_SHOP_SECRETS_DIR`.

    python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'   # a new key
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from truepixel_dagster.settings import Settings

MAX_SECRET_BYTES = 1024
_MAX_FILE_BYTES = 64 * 1024
# File names that Kubernetes creates from a Secret; no paths.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,252}")


class SecretsError(Exception):
    """A secret cannot be stored or read; the message is one line and does not contain it."""


class _Sealed(msgspec.Struct):
    shop: str
    secret: bytes


class Sealer:
    """Encrypt secrets with the newest key, and decrypt them with any.

    Arguments:
        file: The keys, one per line, the newest first.

    Raises:
        SecretsError: The file cannot be read, or holds no key.
    """

    def __init__(self, file: Path) -> None:
        lines = [line.strip() for line in read_file(file).decode(errors="replace").splitlines() if line.strip()]
        try:
            self._fernet = MultiFernet([Fernet(line) for line in lines])
        except ValueError as error:
            raise SecretsError(
                f"TRUEPIXEL_SHOP_KEYS_FILE={str(file)!r} must contain a Fernet key on each line"
            ) from error

    def seal(self, shop: str, secret: bytes) -> str:
        """Return a secret in encrypted form."""
        return self._fernet.encrypt(msgspec.json.encode(_Sealed(shop, secret))).decode()

    def open(self, shop: str, sealed: str) -> bytes:
        """Return the decrypted secret of a shop.

        Raises:
            SecretsError: It was encrypted with another key, or for another shop.
        """
        try:
            found = msgspec.json.decode(self._fernet.decrypt(sealed), type=_Sealed)
        except (InvalidToken, msgspec.MsgspecError) as error:
            raise SecretsError(
                f"a secret of shop {shop!r} was encrypted with a key that is not in TRUEPIXEL_SHOP_KEYS_FILE"
            ) from error
        if found.shop != shop:
            raise SecretsError(f"a secret stored for shop {shop!r} belongs to another shop")
        return found.secret


def sealer_of(settings: Settings) -> Sealer:
    """Return a sealer that uses the keys of the settings.

    Raises:
        SecretsError: No file of keys is set, or the file is unusable.
    """
    if settings.shop_keys_file is None:
        raise SecretsError(
            "TRUEPIXEL_SHOP_KEYS_FILE is not set: it names the file of keys that encrypt secrets in MongoDB"
        )
    return Sealer(Path(settings.shop_keys_file))


def mounted(settings: Settings, name: str) -> bytes:
    """Return the secret in a mounted file.

    Raises:
        SecretsError: The folder or file is missing, the name is a path, or the file holds no secret.
    """
    if settings.shop_secrets_dir is None:
        raise SecretsError("TRUEPIXEL_SHOP_SECRETS_DIR is not set: it names the folder of mounted secrets")
    if not _NAME.fullmatch(name):
        raise SecretsError(f"{name[:80]!r} is not a file name in TRUEPIXEL_SHOP_SECRETS_DIR")
    return one_secret(read_file(settings.shop_secrets_dir / name), name)


def one_secret(raw: bytes, where: str) -> bytes:
    """Return the secret in the content of a file or of standard input: one line.

    Raises:
        SecretsError: The content is empty, more than one line, or longer than 1,024 bytes.
    """
    secret = raw.strip()
    if not secret or len(secret) > MAX_SECRET_BYTES or b"\n" in secret:
        raise SecretsError(f"{where} must contain one secret: a line of at most {MAX_SECRET_BYTES} bytes")
    return secret


def all_secrets(raw: bytes) -> tuple[bytes, ...]:
    """Return the secrets of a file, one per line."""
    return tuple(dict.fromkeys(line.strip() for line in raw.splitlines() if line.strip()))


def read_file(file: Path) -> bytes:
    """Return the content of a small file.

    Raises:
        SecretsError: The file cannot be read, or is not a regular file.
    """
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SecretsError(f"{file}: {error.strerror}") from error
    if len(raw) > _MAX_FILE_BYTES:
        raise SecretsError(f"{file} is larger than {_MAX_FILE_BYTES} bytes")
    return raw
