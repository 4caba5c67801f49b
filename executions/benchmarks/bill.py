"""Measures what the service costs a machine: memory, CPU when idle, and growth of the database.

Beside it, what the guide's application and Celery with Redis take, which keep no output.
"""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack

import django
import psutil

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from executions.benchmarks.api import guide  # noqa: E402
from executions.benchmarks.report import say  # noqa: E402
from executions.benchmarks.services import new_service  # noqa: E402
from executions.benchmarks.work import CeleryPeer, database_on, redis  # noqa: E402
from executions.tests.databases import Database, SqliteDatabase  # noqa: E402
from executions.tests.installation import Installation, wait_for  # noqa: E402
from executions.tests.postgresql import postgresql  # noqa: E402

RUNNING = 100
ENDED = 1000
IDLE = 10.0  # seconds for which the CPU is watched
CALLS = 100  # executions before the memory counts
ENVIRONMENT = {
    "EXECUTION_COMMAND": "sh -c 'eval \"$CONTEXT\"'",
    "EXECUTION_GRACE_PERIOD": "1",
    "EXECUTION_PROJECT_CONCURRENCY": str(RUNNING),
    "THROTTLE_CHANGES": "999999/second",
}
COUNT_ENDED = "SELECT count(*) FROM executions_execution WHERE completed_at IS NOT NULL"


def started_by(start: Callable[[], object]) -> list[psutil.Process]:
    """The processes that a call has left running."""
    here = psutil.Process()
    before = here.children(recursive=True)
    start()
    return [each for each in here.children(recursive=True) if each not in before]


def memory(processes: list[psutil.Process]) -> float:
    """MB that these and all below them hold; a page that several share counts once (PSS)."""
    below = {child for each in processes for child in each.children(recursive=True)}
    return sum(each.memory_full_info().pss for each in {*processes, *below}) / 1e6


def cpu(processes: list[psutil.Process]) -> float:
    """Seconds of CPU that they have taken so far."""
    return sum(sum(each.cpu_times()[:2]) for each in processes)


def size(database: Database) -> int:
    """Bytes on the disk."""
    if isinstance(database, SqliteDatabase):
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return database.path.stat().st_size
    return int(database.query("SELECT pg_database_size(current_database())")[0][0])


def warm_up(service: Installation) -> None:
    for _ in range(CALLS):
        service.wait_for_end(service.post(context=":"))


def idle_and_busy(name: str, service: Installation) -> None:
    server = started_by(service.start_server)
    worker = started_by(
        lambda: service.start_worker(**ENVIRONMENT, WORKER_CONCURRENCY=str(RUNNING))
    )
    warm_up(service)
    time.sleep(2)
    figures = f"{memory(server):.0f} + {memory(worker):.0f} MB"
    say(f"{name}: memory of an idle server and worker", figures)
    before = cpu([*server, *worker])
    time.sleep(IDLE)
    share = (cpu([*server, *worker]) - before) / IDLE
    say(f"{name}: CPU of both when idle, of one core", f"{share:.1%}")
    waiting = [service.post(context="sleep 1000") for _ in range(RUNNING)]
    for each in waiting:
        service.wait_for_status(each, "running")
    time.sleep(2)
    figures = f"{memory(server):.0f} + {memory(worker):.0f} MB"
    say(f"{name}: memory with {RUNNING} executions running, theirs included", figures)


def growth(name: str, service: Installation) -> None:
    """What executions leave that write a line of output each."""
    before = size(service.database)
    create = (
        "from executions.services import accept_executions, new_execution\n"
        "accept_executions([new_execution(project_id=f'p{n % 100}', bead_id='b',"
        f" context='echo The basket remembers. 3 files.') for n in range({ENDED})])"
    )
    service.manage("shell", "-v0", "-c", create)
    service.start_worker(**ENVIRONMENT)
    wait_for(lambda: service.database.query(COUNT_ENDED)[0][0] == ENDED)
    figure = f"{(size(service.database) - before) / ENDED:.0f} bytes"
    say(f"{name}: growth of the database per execution", figure)


def peers(stack: ExitStack) -> None:
    found = started_by(lambda: stack.enter_context(guide(is_async=False)))
    say("the guide's application, idle", f"{memory(found):.0f} MB")
    if shutil.which("redis-server"):
        broker = stack.enter_context(redis())
        peer = CeleryPeer(stack.enter_context(database_on("")), broker)

        def start() -> None:
            stack.enter_context(peer.worker())
            time.sleep(5)

        found = started_by(start)
        say("Celery's worker with as many places as ours has, idle", f"{memory(found):.0f} MB")


def main(postgresql_url: str | None) -> None:
    for name, url in {"SQLite": "", "PostgreSQL": postgresql_url}.items():
        if url is not None:
            with new_service(url) as service:
                idle_and_busy(name, service)
            with new_service(url) as service:
                growth(name, service)
    with ExitStack() as stack:
        peers(stack)


if __name__ == "__main__":
    with postgresql() as server_url:
        main(server_url)
