"""Draw many charts in a separate process, so that the 180 MiB for the drawing are released with it.

It reads one chart a line and answers each with one line, both JSON. It ends when its input ends, so it also ends when
the process that started it is killed.
"""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from truepixel_dagster.report import charts
from truepixel_dagster.report.charts import Spec


class NotDrawn(Exception):
    """Raised where a chart cannot be drawn; the message says why."""


class Drawing:
    """Draw charts with a process that runs `main`."""

    def __init__(self, process: subprocess.Popen[bytes], requests: IO[bytes], answers: IO[bytes]) -> None:
        self._process = process
        self._requests = requests
        self._answers = answers

    def svg(self, spec: Spec) -> str:
        """Return what `charts.svg` returns.

        Raises:
            NotDrawn: The chart is invalid, or the process has ended.
        """
        return self._drawn("svg", spec).decode()

    def png(self, spec: Spec) -> bytes:
        """Return what `charts.png` returns; it raises the same as `svg`."""
        return self._drawn("png", spec)

    def _drawn(self, form: str, spec: Spec) -> bytes:
        try:
            self._requests.write(json.dumps([form, spec]).encode() + b"\n")
            self._requests.flush()
            answer = self._answers.readline()
        except BrokenPipeError:
            answer = b""
        if not answer:
            raise NotDrawn(f"the process that draws the charts has ended, with code {self._process.wait()}")
        drawn, reason = json.loads(answer)
        if reason:
            raise NotDrawn(f"a chart cannot be drawn: {reason}")
        return base64.b64decode(drawn)


@contextmanager
def drawing() -> Iterator[Drawing]:
    """Start the process that draws, until the block ends."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # noqa: S603 (our own)
        assert process.stdin is not None  # noqa: S101 (a pipe)
        assert process.stdout is not None  # noqa: S101 (a pipe)
        try:
            yield Drawing(process, process.stdin, process.stdout)
        finally:
            process.kill()
            # Drop data that could not be sent.
            with suppress(OSError):
                process.stdin.close()


def main(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Draw the charts of all requests; answer each with the picture and the reason why there is none."""
    for line in requests:
        form, spec = json.loads(line)
        drawn, reason = b"", ""
        try:
            drawn = charts.svg(spec).encode() if form == "svg" else charts.png(spec)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
        answers.write(json.dumps([base64.b64encode(drawn).decode(), reason]).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    # Ctrl-C reaches every process of a terminal. This one ends with its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main(sys.stdin.buffer, sys.stdout.buffer)
