"""The names that stand for redacted ids."""

import hashlib


def alias(kind: str, value: str) -> str:
    """Return the alias of an id, as the contract defines it."""
    return "redacted-" + hashlib.sha256(f"{kind} {value}".encode()).hexdigest()[:32]
