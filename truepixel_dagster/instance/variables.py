"""What Dagster asks for variables of a code location: `secrets` in dagster.yaml.

Private: the class that such a loader must be of. The public way, code in the code location, comes too late: it
is loaded after other processes have inherited what a `.env` has replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster._core.secrets import SecretsLoader
from dagster._serdes import ConfigurableClass, ConfigurableClassData

from truepixel_dagster.started_with import put_back


class StartedWith(SecretsLoader, ConfigurableClass):
    """Adds no variable. Made with the instance, in each of Dagster's processes, right after `.env` has been loaded.

    A variable that the process was started with gets its value back then, before other processes inherit it.
    """

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        self._inst_data = inst_data
        put_back()

    def get_secrets_for_environment(self, location_name: str | None) -> Mapping[str, str]:  # noqa: ARG002 (Dagster's)
        """None: what the process has is all."""
        return {}

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """As Dagster asks for it."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No configuration."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> StartedWith:
        """As Dagster makes it."""
        return cls(inst_data, **config_value)
