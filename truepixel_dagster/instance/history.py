"""Check that Dagster's own storage can be reached; report a failure in one line."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from truepixel_dagster.identity import mistaken
from truepixel_dagster.settings import Settings
from truepixel_dagster.text import with_advice

TIMEOUT_SECONDS = 5


class HistoryUnavailable(Exception):
    """Dagster's own storage does not answer. The message says where, why, and what to do."""


def check_history(settings: Settings) -> None:
    """Connect to the PostgreSQL of the settings, if there is one.

    Raises:
        HistoryUnavailable: It is unreachable or denies access, its driver is not installed, or it is not the server
            that the settings expect.
    """
    if settings.postgres_url is None:
        return
    try:
        url = sa.make_url(settings.postgres_url.get_secret_value())
    except (ArgumentError, ValueError):
        # The errors' messages may contain the password.
        raise HistoryUnavailable(
            "TRUEPIXEL_POSTGRES_URL is invalid: it must be postgresql+psycopg2://user:password@host:port/database, with"
            " special characters percent-encoded, such as %40"
        ) from None
    try:
        engine = sa.create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": TIMEOUT_SECONDS})
        with engine.connect() as connection:
            if settings.servers_identity:
                _prove(connection, url, settings.servers_identity)
    except ModuleNotFoundError:
        raise HistoryUnavailable(
            "PostgreSQL's driver is not installed: pip install 'truepixel-dagster[postgres]'"
        ) from None
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        where = f"PostgreSQL at {url.host}:{url.port or 5432}" if url.host else "PostgreSQL"
        raise HistoryUnavailable(f"{where}: {_denial(reason) or _no_answer(reason)}") from None


def _prove(connection: sa.Connection, url: sa.URL, expected: str) -> None:
    found = connection.execute(sa.text("SHOW cluster_name")).scalar()
    if reason := mistaken(f"PostgreSQL at {url.host}:{url.port or 5432}", found, expected):
        raise HistoryUnavailable(reason)


def _denial(reason: str) -> str | None:
    """Return why PostgreSQL denies access, and the setting to check; None for any other reason."""
    # Check this first: a client that may connect without TLS tries both ways, and the message has both refusals.
    if "password authentication failed" in reason or "no password supplied" in reason:
        step = "Check the user and password in TRUEPIXEL_POSTGRES_URL, or PGPASSWORD"
        return with_advice("authentication failed", reason, step)
    if any(words in reason for words in ("certificate verify failed", "root certificate", "does not match host name")):
        step = "Check sslrootcert and sslmode in TRUEPIXEL_POSTGRES_URL"
        return with_advice("its certificate is not trusted", reason, step)
    if "pg_hba.conf" in reason:
        return with_advice(
            "permission denied", reason, "Check the user, database and sslmode in TRUEPIXEL_POSTGRES_URL"
        )
    return None


def _no_answer(reason: str) -> str:
    here = "`truepixel stack up --with-postgres` starts one on this machine"
    return f"the connection failed: {reason}. Start the server, or correct TRUEPIXEL_POSTGRES_URL; {here}"
