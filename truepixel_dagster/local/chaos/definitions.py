"""The pipeline's own definitions with failpoints, which Dagster loads under chaos."""

from truepixel_dagster.definitions import definitions
from truepixel_dagster.local.chaos.failpoints import install
from truepixel_dagster.settings import load_settings

install(load_settings().data_dir)

__all__ = ["definitions"]
