"""A whole service for a test: its own folder, port and processes."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Self, TypeVar

import psutil
import requests
from django.conf import settings

from executions.tests.databases import URL, Database, describe_database

T = TypeVar("T")

# What a developer may have set and no test should see.
OURS = (
    *("EXECUTION_", "WORKER_", "THROTTLE_", "GRANIAN_", "DATABASE_URL", "OPEN_ACCESS"),
    *("SECRET_KEY", "DEBUG", "LOG_FORMAT", "PROXY_ADDRESS_HEADER"),
)


def wait_for(look: Callable[[], T | None], *, timeout: float = 30) -> T:
    """What `look` returns as soon as it is true. Fails after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := look()):
        assert time.monotonic() < deadline, f"still {found!r} after {timeout} s"
        time.sleep(0.02)
    return found


def find_free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port: int = free.getsockname()[1]
        return port


class Installation:
    """Use it as a context manager: what it started is killed at the end.

    Outside it has no database, unless it is given somebody else's.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        template: Database | None = None,
        database: Database | None = None,
        server: str = URL,
    ) -> None:
        """`server` is the URL of where its own database is made; SQLite if it is empty."""
        data_dir.mkdir(parents=True, exist_ok=True)
        self.data_dir = data_dir
        self.template = template
        self.owns_database = database is None
        self.database = database or describe_database(data_dir, server)
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
            "DATA_DIR": str(data_dir),
            "DATABASE_URL": self.database.url,
            "PORT": str(self.port),
            "OPEN_ACCESS": "on",
            "PYTHONUNBUFFERED": "1",
        }

    def sibling(self) -> Self:
        """Another one on the same data, with a port of its own."""
        return type(self)(self.data_dir, database=self.database)

    def __enter__(self) -> Self:
        if self.owns_database:
            self.database.create(self.template)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for process in self.processes:
            for below in descendants(process.pid):
                below.kill()
            process.kill()
            process.wait()
        if self.owns_database:
            self.database.drop()

    def manage(self, *arguments: str, **environment: str) -> str:
        """What `manage.py` prints. Fails if it fails."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=settings.BASE_DIR,
            env=self.environment | environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *command: str, **environment: str) -> "subprocess.Popen[bytes]":
        """Start a process of the service; what it prints goes to `printed`."""
        with (self.data_dir / "printed").open("ab") as printed:
            process = subprocess.Popen(
                command,
                cwd=settings.BASE_DIR,
                env=self.environment | environment,
                stdout=printed,
                stderr=printed,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    @property
    def printed(self) -> str:
        return (self.data_dir / "printed").read_text()

    def start_server(self, **environment: str) -> "subprocess.Popen[bytes]":
        process = self.start(sys.executable, "manage.py", "run_server", **environment)
        wait_for(self.answers)
        return process

    def start_worker(self, *, name: str = "w", **environment: str) -> "subprocess.Popen[bytes]":
        process = self.start(
            sys.executable, "manage.py", "run_worker", "--name", name, **environment
        )
        wait_for(lambda: f"Worker {name} is ready" in self.printed)
        return process

    def answers(self) -> bool:
        try:
            return requests.get(f"{self.url}/livez", timeout=5).ok
        except requests.ConnectionError:
            return False

    def suspend(self, process: "subprocess.Popen[bytes]") -> None:
        """SIGSTOP, but not in a transaction: others would have to wait for its locks."""
        is_between = False
        while not is_between:
            with self.database.locked():
                process.send_signal(signal.SIGSTOP)
                wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
                is_between = not self.database.has_waiting()
                if not is_between:
                    process.send_signal(signal.SIGCONT)

    def post(self, project_id: str = "p", bead_id: str = "b", **fields: Any) -> dict[str, Any]:
        answer = requests.post(
            f"{self.url}/executions/",
            json={"project_id": project_id, "bead_id": bead_id, **fields},
            timeout=30,
        )
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, execution: dict[str, Any]) -> dict[str, Any]:
        answer = requests.get(f"{self.url}/executions/{execution['id']}", timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ended(self, execution: dict[str, Any]) -> dict[str, Any] | None:
        """The execution if it has ended, else None."""
        found = self.get(execution)
        return found if found["completed_at"] else None

    def wait_for_status(self, execution: dict[str, Any], *statuses: str) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            found = self.get(execution)
            return found if found["status"] in statuses else None

        return wait_for(look)

    def wait_for_end(self, execution: dict[str, Any]) -> dict[str, Any]:
        return self.wait_for_status(execution, "completed", "failed", "cancelled")


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below one that are still there."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_alive(pid: int) -> bool:
    """Whether a process is there and not only its exit status."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def interrupt(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM) -> int:
    """Signal a process and wait for its end; its exit code."""
    process.send_signal(number)
    return process.wait(timeout=30)
