"""Whether Dagster's own storage can be reached, said in one line."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from truepixel_dagster.settings import Settings

TIMEOUT_SECONDS = 5


class HistoryUnavailable(Exception):
    """Dagster's own storage does not answer. The message says where, why, and what to do."""


def check_history(settings: Settings) -> None:
    """Connect to the PostgreSQL of the settings, if there is one.

    Raises:
        HistoryUnavailable: It does not take the connection, or its driver is not installed.
    """
    if settings.postgres_url is None:
        return
    try:
        url = sa.make_url(settings.postgres_url.get_secret_value())
    except (ArgumentError, ValueError):
        # Their messages may hold what stands where the password should be.
        raise HistoryUnavailable(
            "TRUEPIXEL_POSTGRES_URL cannot be read: it must be postgresql+psycopg2://user:password@host:port/database,"
            " with special characters as %40 and the like"
        ) from None
    try:
        sa.create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": TIMEOUT_SECONDS}).connect().close()
    except ModuleNotFoundError:
        raise HistoryUnavailable(
            "PostgreSQL's driver is not installed: pip install 'truepixel-dagster[postgres]'"
        ) from None
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise HistoryUnavailable(
            f"PostgreSQL does not take Dagster (TRUEPIXEL_POSTGRES_URL): {reason};"
            " `truepixel stack up --with-postgres` starts one on this machine"
        ) from None
