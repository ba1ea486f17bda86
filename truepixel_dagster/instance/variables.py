"""The loader of a code location's variables (`secrets` in dagster.yaml), which restores variables that `.env` replaced.

Private: the base class of such loaders. The public way, code in the code location, comes too late: it is loaded after
other processes have inherited the variables that a `.env` has replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster._core.secrets import SecretsLoader
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from truepixel_dagster.started_with import put_back


class StartedWith(SecretsLoader, ConfigurableClass):
    """Add no variable. Each of Dagster's processes creates it with the instance, right after loading `.env`.

    It then restores the variables that the process was started with, before other processes inherit them.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        put_back()

    def get_secrets_for_environment(self, location_name: str | None) -> Mapping[str, str]:  # noqa: ARG002 (Dagster's)
        """Return no variables: the process has all of them."""
        return {}

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """Return the configuration that Dagster gave."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return an empty schema: there is no configuration."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> StartedWith:
        """Create it as Dagster does."""
        return cls(inst_data, **config_value)
