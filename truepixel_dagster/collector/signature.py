"""Verify Shopify's signature of a body: HMAC-SHA256 of the raw bytes, as base64 in `X-Shopify-Hmac-Sha256`.

The key is the app's client secret; webhooks created in a store's admin use that store's own secret. After a rotation
Shopify may use the old secret for up to an hour, so several secrets are valid at once
(https://shopify.dev/docs/apps/build/webhooks/verify-deliveries).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable

_DIGEST_BYTES = 32
# The length of 32 bytes in base64.
_SIGNATURE_CHARACTERS = 44


def sign(body: bytes, secret: bytes) -> bytes:
    """Return the signature of a body as Shopify writes it."""
    return base64.b64encode(hmac.digest(secret, body, "sha256"))


def is_signed(body: bytes, signature: bytes, secrets: Iterable[bytes]) -> bool:
    """Return whether one of the secrets signed a body; the comparison takes constant time.

    Arguments:
        body: The body as received, byte for byte.
        signature: The header's value; empty if it is missing.
        secrets: Any number of secrets; an empty one never matches.
    """
    if len(signature) != _SIGNATURE_CHARACTERS:
        return False
    try:
        given = base64.b64decode(signature, validate=True)
    except ValueError:
        return False
    if len(given) != _DIGEST_BYTES:
        return False
    for secret in secrets:  # noqa: SIM110 (a generator takes as long as the digest of a small body)
        if secret and hmac.compare_digest(hmac.digest(secret, body, "sha256"), given):
            return True
    return False
