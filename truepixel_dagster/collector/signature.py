"""Whether Shopify has signed a body: HMAC-SHA256 of the raw bytes, as base64 in `X-Shopify-Hmac-Sha256`.

The key is the app's client secret; webhooks that are made in a store's admin are signed with that store's own. After a
rotation Shopify may go on with the old one for an hour, so that any number of secrets counts at once
(https://shopify.dev/docs/apps/build/webhooks/verify-deliveries).
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable

_DIGEST_BYTES = 32
# 32 bytes in base64.
_SIGNATURE_CHARACTERS = 44


def sign(body: bytes, secret: bytes) -> bytes:
    """The signature of a body as Shopify writes it."""
    return base64.b64encode(hmac.digest(secret, body, "sha256"))


def is_signed(body: bytes, signature: bytes, secrets: Iterable[bytes]) -> bool:
    """Whether a body was signed with one of some secrets. It is compared in constant time.

    Arguments:
        body: As it came, byte by byte.
        signature: The header's value; empty where it is missing.
        secrets: Any number; one that is empty signs nothing.
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
