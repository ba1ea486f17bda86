"""The pipeline's definitions, genuine but for the kill switches: what Dagster loads under chaos."""

from truepixel_dagster.definitions import definitions
from truepixel_dagster.local.chaos.failpoints import install
from truepixel_dagster.settings import load_settings

install(load_settings().data_dir)

__all__ = ["definitions"]
