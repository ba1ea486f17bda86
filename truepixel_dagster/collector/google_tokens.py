"""Verify the OpenID Connect tokens with which push subscriptions of Google Cloud Pub/Sub prove themselves.

Google signs a token for the service account and the audience of the subscription. So a token proves nothing until its
audience and its account are those of the settings
(https://docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions).
"""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.request
from collections.abc import Callable, Mapping

import msgspec
from google.auth import exceptions, jwt

LOG = logging.getLogger(__name__)
ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
# Google rotates its keys about once a day and publishes a new one before it signs with it.
KEPT_SECONDS = 3600.0
# The shortest time between two downloads, even if tokens name unknown keys.
PAUSE_SECONDS = 30.0
_DOWNLOAD_SECONDS, _MAX_BYTES, _MAX_TOKEN = 2.0, 64 * 1024, 8192
_CLOCK_SKEW_SECONDS = 10
_KEYS = msgspec.json.Decoder(dict[str, str])

Keys = Mapping[str, str]


class KeysAway(Exception):
    """Google's public keys cannot be downloaded, so that no token can be verified."""


def download(url: str) -> Keys:
    """Return Google's public certificates by key id.

    Raises:
        OSError, msgspec.MsgspecError: They cannot be downloaded.
    """
    with urllib.request.urlopen(url, timeout=_DOWNLOAD_SECONDS) as answer:  # noqa: S310 (the setting allows https)
        return _KEYS.decode(answer.read(_MAX_BYTES))


class GoogleTokens:
    """Verify tokens, with a cache of Google's keys.

    Arguments:
        audience: The audience of the push subscription.
        account: The email address of the subscription's service account.
        keys: Downloads the keys; it may block and raise.
        clock: Returns seconds.
    """

    def __init__(
        self, audience: str, account: str, keys: Callable[[], Keys], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._audience = audience
        self._account = account
        self._download = keys
        self._clock = clock
        self._keys: Keys = {}
        self._loaded_at = self._tried_at = float("-inf")
        self._loading = asyncio.Lock()

    async def accepts(self, token: str) -> bool:
        """Return whether Google has signed a valid token for this audience and account.

        Raises:
            KeysAway: Google's keys cannot be downloaded.
        """
        if not token.isascii() or len(token) > _MAX_TOKEN:
            return False
        try:
            key_id = jwt.decode_header(token).get("kid")
            keys = await self._keys_with(str(key_id))
            claims = jwt.decode(token, keys, audience=self._audience, clock_skew_in_seconds=_CLOCK_SKEW_SECONDS)
            account = claims.get("email") if claims.get("email_verified") is True else None
            return account == self._account and claims.get("iss") in ISSUERS
        except (exceptions.GoogleAuthError, ValueError, TypeError, AttributeError, RecursionError):
            # google-auth raises these for invalid tokens, and for tokens that Google has not signed.
            return False

    async def _keys_with(self, key_id: str) -> Keys:
        """Return the keys; download them if they are old or lack a key."""
        async with self._loading:
            now = self._clock()
            is_wanted = key_id not in self._keys or now - self._loaded_at >= KEPT_SECONDS
            if is_wanted and now - self._tried_at >= PAUSE_SECONDS:
                self._tried_at = now
                try:
                    self._keys = await asyncio.wait_for(asyncio.to_thread(self._download), _DOWNLOAD_SECONDS)
                    self._loaded_at = now
                except (OSError, ValueError, asyncio.TimeoutError) as error:
                    LOG.warning("Google's public keys cannot be downloaded: %s", error)
            if not self._keys:
                raise KeysAway
            return self._keys
