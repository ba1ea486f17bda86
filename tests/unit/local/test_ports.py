"""Ports of the local servers differ from those of Kafka's controllers: one port for both, and Kafka did not start."""

from __future__ import annotations

from truepixel_dagster.local.servers import free_ports
from truepixel_dagster.local.servers.ports import FOR_CONTROLLERS, FOR_SERVERS


def test_no_controller_gets_the_port_of_a_server_that_has_not_started_yet() -> None:
    assert not set(FOR_SERVERS) & set(FOR_CONTROLLERS)
    servers, controllers = free_ports(50), free_ports(50, FOR_CONTROLLERS)
    assert len({*servers, *controllers}) == 100
    assert set(servers) <= set(FOR_SERVERS)
    assert set(controllers) <= set(FOR_CONTROLLERS)
