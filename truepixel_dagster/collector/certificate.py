"""Reload the TLS certificate when its files change, so that a renewal needs no restart."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

LOG = logging.getLogger(__name__)


class Certificate:
    """Watch the files of a certificate and its key.

    Arguments:
        certificate: PEM file of the certificate and its chain.
        key: PEM file of the key; None if the certificate's file contains it.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._certificate, self._key = certificate, key or certificate
        self._loaded = self._read()

    def check(self) -> None:
        """Load the files into a context of their own.

        Raises:
            OSError, ssl.SSLError: They cannot be read, do not match, or the key has a passphrase.
        """
        # With an empty passphrase OpenSSL does not ask for one at the terminal, where it would wait for ever.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self._certificate, self._key, "")

    def refresh(self, context: ssl.SSLContext) -> None:
        """Load the files into a server's context if they have changed: new connections then use them.

        While the files are unusable, such as between the replacement of the two, the last certificate stays in use.
        """
        found = self._read()
        if found in (None, self._loaded):
            return
        self._loaded = found
        try:
            # Loading a key that does not match would leave the server's own context without a usable certificate.
            self.check()
            context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            LOG.warning("the certificate %s cannot be used, so the last one stays in use: %s", self._certificate, error)
        else:
            LOG.warning("loaded the new certificate %s", self._certificate)

    def _read(self) -> list[bytes] | None:
        try:
            return [file.read_bytes() for file in (self._certificate, self._key)]
        except OSError:
            return None
