"""Measures the work itself beside Celery with Redis, whose task runs the same and stores its end.

How soon a command runs after the answer that it was accepted; how many a second go from the claim
to the stored end; and whether a claim is slower where much waits.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from executions.benchmarks.celery_peer import TABLE  # noqa: E402
from executions.benchmarks.report import say  # noqa: E402
from executions.benchmarks.services import new_service  # noqa: E402
from executions.tests.databases import (  # noqa: E402
    Database,
    SqliteDatabase,
    describe_database,
)
from executions.tests.installation import find_free_port, wait_for  # noqa: E402
from executions.tests.postgresql import postgresql  # noqa: E402

ROUNDS = 3
TASKS = 1000
STARTS = 200
CONCURRENCY = 4
CLOCK = ["date", "+%s.%N"]

MAKE_WAITING = """
from executions.services import accept_executions, new_execution
accept_executions([new_execution(project_id=f"p{{n % {projects}}}", bead_id="b")
                   for n in range({count})])
"""

# Each that is claimed is ended, and followed by another, so that as many wait all the time.
TIME_CLAIMS = """
import statistics, time
from django.db import transaction
from executions.claims import claim_executions, finish_execution
from executions.services import accept_executions, new_execution
times = []
for _ in range(300):
    with transaction.atomic():
        began = time.perf_counter()
        [(execution, token)] = claim_executions(worker="w", limit=1, lease=30)
        times.append(time.perf_counter() - began)
    finish_execution(execution.pk, token=token, exit_code=0)
    accept_executions([new_execution(project_id=execution.project_id, bead_id="b")])
print(statistics.median(times))
"""


@contextmanager
def database_on(url: str) -> Iterator[Database]:
    """An empty database on the server that `url` names, or of SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        database = describe_database(Path(folder), url)
        database.create(None)
        try:
            yield database
        finally:
            database.drop()


@contextmanager
def redis() -> Iterator[str]:
    """A Redis of our own; its URL."""
    port = find_free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()


class CeleryPeer:
    """Celery's worker on a database, and what sends it tasks."""

    def __init__(self, database: Database, broker: str) -> None:
        self.database = database
        self.environment = os.environ | {
            "CELERY_BROKER_URL": broker,
            "CELERY_PEER_DATABASE": database.url or str(path_of(database)),
        }
        database.execute(TABLE)
        if isinstance(database, SqliteDatabase):
            database.execute("PRAGMA journal_mode=WAL")  # once: several at once would fail

    @contextmanager
    def worker(self) -> Iterator[None]:
        command = ["celery", "--app", "executions.benchmarks.celery_peer", "worker"]
        options = ["--concurrency", str(CONCURRENCY), "--loglevel", "ERROR", "--without-gossip"]
        worker = subprocess.Popen(
            [sys.executable, "-m", *command, *options, "--without-mingle"],
            env=self.environment | {"C_FORCE_ROOT": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            worker.terminate()
            worker.wait()

    def send(self, count: int, command: list[str]) -> None:
        """From a process of its own, as a client is."""
        rows = ", ".join(f"({number}, 'waiting')" for number in range(count))
        self.database.execute(f"INSERT INTO ended (id, status) VALUES {rows}")
        script = (
            "from executions.benchmarks.celery_peer import run\n"
            f"for number in range({count}): run.delay(number, {command!r})"
        )
        subprocess.run([sys.executable, "-c", script], env=self.environment, check=True)


def path_of(database: Database) -> Path | None:
    return database.path if isinstance(database, SqliteDatabase) else None


def drain_rate(database: Database, table: str) -> float:
    """Ends a second in this table, from the first that is seen until the last."""
    sql = f"SELECT count(*) FROM {table} WHERE status = 'completed'"
    with closing(database.connect()) as connection:

        def count_ended() -> int:
            return int(connection.execute(sql).fetchall()[0][0])

        first = wait_for(count_ended, timeout=60)
        began = time.monotonic()
        wait_for(lambda: count_ended() == TASKS, timeout=120)
        return (TASKS - first) / (time.monotonic() - began)


def drain_ours(url: str) -> float:
    with new_service(url) as service:
        service.manage("shell", "-v0", "-c", MAKE_WAITING.format(count=TASKS, projects=100))
        service.start_worker(
            EXECUTION_COMMAND="/bin/true",
            WORKER_CONCURRENCY=str(CONCURRENCY),
            EXECUTION_PROJECT_CONCURRENCY="1000",
        )
        return drain_rate(service.database, "executions_execution")


def drain_celery(url: str, broker: str) -> float:
    with database_on(url) as database:
        peer = CeleryPeer(database, broker)
        peer.send(TASKS, ["/bin/true"])
        with peer.worker():
            return drain_rate(database, "ended")


def latencies_of_ours(url: str) -> list[float]:
    """From each answered POST to its running process, in seconds."""
    with new_service(url) as service:
        service.start_server()
        service.start_worker(EXECUTION_COMMAND=" ".join(CLOCK))
        late = []
        for _ in range(STARTS):
            created = service.post()
            answered = time.time()
            ended = wait_for(lambda it=created: service.ended(it))  # type: ignore[misc]
            late.append(float(ended["output"]) - answered)
        return late


def percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    return f"{p50 * 1000:.1f} ms, {p99 * 1000:.1f} ms"


def claim_time(url: str, *, waiting: int, projects: int) -> float:
    """Seconds that a claim takes, without its commit."""
    with new_service(url) as service:
        make = MAKE_WAITING.format(count=waiting, projects=projects)
        service.manage("shell", "-v0", "-c", make)
        return float(service.manage("shell", "-v0", "-c", TIME_CLAIMS))


def main(postgresql_url: str | None) -> dict[str, tuple[float, float]]:
    """By database: our rate of executions, and Celery's; where there is a Redis."""
    found = {}
    with ExitStack() as stack:
        broker = stack.enter_context(redis()) if shutil.which("redis-server") else None
        for name, url in (("SQLite", ""), ("PostgreSQL", postgresql_url)):
            if url is None:
                continue
            late = percentiles(latencies_of_ours(url))
            say(f"{name}: from the answered POST to the running process, p50, p99", late)
            ours, peers = [], []
            for _ in range(ROUNDS):
                ours.append(drain_ours(url))
                if broker is not None:
                    peers.append(drain_celery(url, broker))
            rate = statistics.median(ours)
            say(f"{name}: /bin/true, from claim to stored end", f"{rate:.0f}/s")
            if broker is not None:
                ratio = statistics.median(a / b for a, b in zip(ours, peers, strict=True))
                found[name] = rate, statistics.median(peers)
                say("  Celery with Redis", f"{found[name][1]:.0f}/s, ratio {ratio:.2f}")
            few = claim_time(url, waiting=10, projects=10)
            many = claim_time(url, waiting=1000, projects=100)
            say(
                f"{name}: a claim where 1,000 of 100 projects wait, to one where 10 do",
                f"{many / few:.2f} ({few * 1e6:.0f} and {many * 1e6:.0f} microseconds)",
            )
    return found


if __name__ == "__main__":
    with postgresql() as url:
        main(url)
