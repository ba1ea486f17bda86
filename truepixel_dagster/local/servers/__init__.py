"""The real servers: how each one starts from packages, how its process is recognized, and whether it answers.

A server's folder holds its `data`, its log and its pid. A pid counts only if the command line of its process contains
the folder, so that a process that got an old pid is never mistaken for a server.
"""

from __future__ import annotations

from truepixel_dagster.local.servers.elasticsearch import Elasticsearch
from truepixel_dagster.local.servers.kafka import Kafka
from truepixel_dagster.local.servers.mongodb import MongoDB
from truepixel_dagster.local.servers.ports import free_ports
from truepixel_dagster.local.servers.postgres import Postgres
from truepixel_dagster.local.servers.redis import Redis
from truepixel_dagster.local.servers.server import Address, NotAnsweringError, Server, StackError

__all__ = [
    "Address",
    "Elasticsearch",
    "Kafka",
    "MongoDB",
    "NotAnsweringError",
    "Postgres",
    "Redis",
    "Server",
    "StackError",
    "free_ports",
]
