"""Measures the API beside the application of the guide that this project began as.

That one keeps executions in a dict, in memory, and starts nothing; it runs on uvicorn with uvloop,
and without a log of what it answers. Ours keeps them in a database, checks who calls, and logs who
starts what. One server process each, the load by wrk, one second a figure, in turns.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import django
import requests

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from executions.benchmarks.pages import compare_pages  # noqa: E402
from executions.benchmarks.report import Report  # noqa: E402
from executions.benchmarks.rows import fill  # noqa: E402
from executions.benchmarks.services import new_service  # noqa: E402
from executions.tests.installation import (  # noqa: E402
    Installation,
    find_free_port,
    wait_for,
)
from executions.tests.postgresql import postgresql  # noqa: E402

GUIDE = Path(__file__).with_name("guide")
ROUNDS = 3
SECONDS = 1
FEW, MANY = 100, 1_000_000

BODY = '{"project_id": "p1", "bead_id": "b1", "context": "The basket forgets its last item."}'
POST = f"""
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{BODY}'
"""
CALLS = ("detail", "list of 100", "list of a project", "create")

MAKE_USER = 'from executions.tests.helpers import make_user; make_user("ada", "operator")'


@dataclass
class Target:
    """A server that is measured."""

    name: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    service: Installation | None = None  # None: not ours
    is_written: bool = False  # whether somebody commits to its database all the time

    def path(self, call: str) -> str:
        if call == "list of a project":
            return "/executions/?project_id=p1&limit=10"  # of a hundred executions ten are p1's
        if call == "detail":
            found = requests.get(f"{self.url}/executions/", headers=self.headers, timeout=30)
            return f"/executions/{found.json()[0]['id']}"
        return "/executions/"


def measure(target: Target, call: str, *, connections: int, script: str) -> float:
    """Answers a second. Fails if one of them is not the one that was asked for."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s"]
    command += ["-s", script] if call == "create" else []
    for name, value in target.headers.items():
        command += ["-H", f"{name}: {value}"]
    url = target.url + target.path(call)
    printed = subprocess.run([*command, url], check=True, capture_output=True, text=True).stdout
    assert "Non-2xx" not in printed, printed
    assert "Socket errors" not in printed, printed
    return float(re.search(r"Requests/sec: +([\d.]+)", printed)[1])  # type: ignore[index]


@contextmanager
def guide(*, is_async: bool) -> Iterator[str]:
    """The guide's application with a hundred executions; its handlers made `async def` or not."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(GUIDE, folder, dirs_exist_ok=True)
        if is_async:
            router = Path(folder, "app", "routers", "executions.py")
            router.write_text(router.read_text().replace("\ndef ", "\nasync def "))
        port = find_free_port()
        command = ["-m", "uvicorn", "app.main:app", "--port", str(port), "--no-access-log"]
        with open(f"{folder}/printed", "wb") as printed:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=folder, stdout=printed, stderr=printed
            )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(lambda: answers(url))
            for number in range(FEW):
                body = {"project_id": f"p{number % 10}", "bead_id": f"b{number}"}
                requests.post(f"{url}/executions/", json=body, timeout=30).raise_for_status()
            yield url
        finally:
            process.terminate()
            process.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/executions/", timeout=5).ok
    except requests.ConnectionError:
        return False


@contextmanager
def service(server: str, count: int) -> Iterator[tuple[Installation, str]]:
    """A server of ours with so many executions, and a token for it."""
    with new_service(server) as installation:
        fill(installation.database, count)
        installation.manage("shell", "-v0", "-c", MAKE_USER)
        token = installation.manage("create_token", "ada").strip()
        installation.start_server(THROTTLE_CHANGES="999999/second")
        yield installation, token


@contextmanager
def commits(target: Target) -> Iterator[None]:
    """So that no list is answered from memory."""
    done = threading.Event()

    def commit() -> None:
        while target.service and target.is_written and not done.is_set():
            target.service.database.execute("UPDATE auth_user SET first_name = random()")

    thread = threading.Thread(target=commit)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


GUIDE_SYNC, GUIDE_ASYNC = "guide, in memory", "guide, async def"
BASE = (GUIDE_SYNC, GUIDE_ASYNC, "SQLite", "PostgreSQL")
OF_MANY = f", {MANY:,} rows"
WRITING = "SQLite, written to all the time"
LISTS = CALLS[1:3]


def targets(stack: ExitStack, postgresql_url: str | None) -> dict[str, Target]:
    """All servers, started."""
    guides = ((GUIDE_SYNC, False), (GUIDE_ASYNC, True))
    found = [
        Target(name, stack.enter_context(guide(is_async=is_async))) for name, is_async in guides
    ]
    for name, url in (("SQLite", ""), ("PostgreSQL", postgresql_url)):
        if url is None:
            continue
        few, token = stack.enter_context(service(url, FEW))
        many, _ = stack.enter_context(service(url, MANY))
        authorization = {"Authorization": f"Token {token}"}
        found += [
            Target(name, few.url, service=few),
            Target(f"{name}, token", few.url, authorization, service=few),
            Target(name + OF_MANY, many.url, service=many),
        ]
        if not url:
            found.append(Target(WRITING, few.url, service=few, is_written=True))
    return {target.name: target for target in found}


def rounds(found: dict[str, Target], calls: Sequence[str]) -> Iterator[tuple[str, Target, int]]:
    """What is measured, one after the other: the same call of all, and all of it several times."""
    for _ in range(ROUNDS):
        for connections in (1, 16):
            for call in calls:
                for name, target in found.items():
                    if connections == 1 and name not in BASE:
                        continue
                    if name != WRITING or call in LISTS:
                        yield call, target, connections


def at(call: str, connections: int) -> str:
    return f"{call}, {connections}"


def main(postgresql_url: str | None) -> Report:
    report = Report(peer=GUIDE_SYNC)
    with ExitStack() as stack:
        script = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".lua"))
        script.write(POST)
        script.flush()
        found = targets(stack, postgresql_url)
        for name, target in found.items():
            many = found.get(name + OF_MANY)
            if many and target.service and many.service:
                compare_pages(name, target.service, many.service)
        # What is created stays, so that comes last.
        for calls in (CALLS[:3], CALLS[3:]):
            for call, target, connections in rounds(found, calls):
                with commits(target):
                    rate = measure(target, call, connections=connections, script=script.name)
                report.add(at(call, connections), target.name, rate)
    for connections, names in ((1, BASE), (16, [name for name in found if name != WRITING])):
        report.table(
            [at(call, connections) for call in CALLS],
            [name for name in names if name in found],
            unit=f"answers/s, {connections} connections",
        )
    report.table([at(call, 16) for call in LISTS], [WRITING], unit="")
    return report


if __name__ == "__main__":
    with postgresql() as url:
        main(url)
