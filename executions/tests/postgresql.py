"""A PostgreSQL server of our own, for as long as a command runs.

    python -m executions.tests.postgresql COMMAND [ARGUMENT ...]

runs it with a DATABASE_URL that names the server. It takes PostgreSQL's programs and, for root, a
user `postgres`, as its packages bring both.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from pathlib import Path
from typing import Any

from executions.tests.installation import find_free_port

# What tests do not need: the disk to have it.
FAST = ("-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")


def find_programs() -> Path | None:
    """The folder of the newest `initdb` and its like; None if there is none."""
    found = shutil.which("initdb")
    folders = sorted(glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[4]))
    return Path(found).resolve().parent if found else Path(folders[-1]) if folders else None


@contextmanager
def postgresql(*options: str) -> Iterator[str]:
    """Runs a server with these `options`; its DATABASE_URL."""
    programs = find_programs()
    if programs is None:
        raise FileNotFoundError("PostgreSQL's initdb")
    # PostgreSQL refuses to be root.
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="executions-postgresql-") as folder:
        if owner:
            shutil.chown(folder, **owner)
        data, port = f"{folder}/data", find_free_port()
        subprocess.run(
            [programs / "initdb", "--pgdata", data, "--username", "executions", "--auth", "trust"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=folder,
            **owner,
        )
        address = ("-h", "127.0.0.1", "-p", str(port), "-k", folder)
        command = [str(programs / "postgres"), "-D", data, *address, *options]
        with open(f"{folder}/printed", "wb") as printed:
            server = subprocess.Popen(command, stdout=printed, stderr=printed, cwd=folder, **owner)
        try:
            while subprocess.run([programs / "pg_isready", "-q", *address[:4]]).returncode:
                assert server.poll() is None, Path(f"{folder}/printed").read_text()
                time.sleep(0.1)
            yield f"postgres://executions@127.0.0.1:{port}/executions"
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    with postgresql("-c", "max_connections=300", *FAST) as url:
        environment = os.environ | {"DATABASE_URL": url}
        sys.exit(subprocess.run(sys.argv[1:], env=environment).returncode)
