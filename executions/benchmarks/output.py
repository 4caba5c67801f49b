"""Measures output: speed and memory under a flood, delay to a reader, and the price of readers.

Each figure is printed beside its peer, measured in the same minutes. It starts
a service of its own in a temporary folder.
"""

import os
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import django
import psutil
import requests

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from executions.benchmarks.report import say  # noqa: E402
from executions.tests.installation import Installation, wait_for  # noqa: E402

SIZE = 2  # GiB
FLOOD = f"yes | head -c {SIZE}G"
ROUNDS = 3
READERS = 100
SECONDS = 2.0  # for which a rate of calls is measured
WRITERS = 50
# 1,000 lines a second for 20 s, in tenths of a second.
WRITER = """
import os, time
for first in range(0, 20000, 100):
    os.write(1, "".join(f"line {first + n} of this execution\\n" for n in range(100)).encode())
    time.sleep(0.1)
"""
EXPECTED = "".join(f"line {number} of this execution\n" for number in range(20_000)).encode()


def flood(service: Installation, worker: "subprocess.Popen[bytes]") -> None:
    """Much through the worker against the same through a pipe to cat."""
    ours, peers, memory = [], [], []
    before = psutil.Process(worker.pid).memory_info().rss
    for _ in range(ROUNDS):
        began = time.monotonic()
        subprocess.run(["sh", "-c", f"{FLOOD} | cat > /dev/null"], check=True)
        peers.append(time.monotonic() - began)
        execution = service.post(context=FLOOD)
        began = time.monotonic()
        while service.get(execution)["status"] not in ("completed", "failed"):
            memory.append(psutil.Process(worker.pid).memory_info().rss)
            time.sleep(0.05)
        ours.append(time.monotonic() - began)
        assert service.get(execution)["output_size"] == SIZE * 2**30
    ratios = [peer / our for our, peer in zip(ours, peers, strict=True)]
    say(f"{FLOOD}: speed as a part of `| cat >/dev/null`", f"{statistics.median(ratios):.2f}")
    figures = f"{max(memory) / 2**20:.0f} MiB, before it {before / 2**20:.0f}"
    say("  the worker's memory meanwhile, at most", figures)


def delay(service: Installation) -> None:
    """From writing a line to a waiting reader's having it."""
    execution = service.post(context="for i in $(seq 40); do date +%s.%N; sleep 0.31; done")
    offset, late = 0, []
    while service.get(execution)["status"] in ("pending", "running"):
        answer = requests.get(
            f"{service.url}/executions/{execution['id']}/output?offset={offset}&wait=5", timeout=30
        )
        now = time.time()
        late += [now - float(line) for line in answer.text.split()]
        offset = int(answer.headers["X-Output-Offset"])
    say("a written line reaches a waiting reader after, p50", f"{statistics.median(late):.2f} s")


def rate(call: Callable[[], object]) -> float:
    """Calls a second."""
    count, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        call()
        count += 1
    return count / SECONDS


@contextmanager
def waiting_readers(service: Installation) -> Iterator[None]:
    execution = service.post(project_id="waited-for", context="sleep 1000")
    url = f"{service.url}/executions/{execution['id']}"
    with ExitStack() as streams:
        for _ in range(READERS):
            headers = {"Accept": "text/event-stream"}
            answer = requests.get(f"{url}/output", headers=headers, stream=True, timeout=30)
            streams.enter_context(answer)
        yield
    requests.post(f"{url}/cancel", timeout=30)


def readers(service: Installation) -> None:
    """GET and POST with and without readers who wait."""
    session = requests.Session()
    calls = {
        "GET": lambda: session.get(f"{service.url}/executions/", timeout=30),
        "POST": lambda: session.post(
            f"{service.url}/executions/", json={"project_id": "x", "bead_id": "b"}, timeout=30
        ),
    }
    ratios: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        without = {name: rate(call) for name, call in calls.items()}
        with waiting_readers(service):
            for name, call in calls.items():
                ratios[name].append(rate(call) / without[name])
    for name, found in ratios.items():
        median = statistics.median(found)
        say(f"rate of {name} with {READERS} waiting readers, as a part of without", f"{median:.2f}")


def many_writers(service: Installation) -> None:
    script = f"python3 -Sc '{WRITER}'"
    created = [service.post(f"writer-{number}", context=script) for number in range(WRITERS)]
    slowest, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            began = time.monotonic()
            requests.get(f"{service.url}/executions/", timeout=60).raise_for_status()
            slowest.append(time.monotonic() - began)
            time.sleep(0.1)

    looking = threading.Thread(target=look)
    looking.start()
    lost = 0
    for each in created:
        wait_for(lambda each=each: service.get(each)["completed_at"], timeout=120)  # type: ignore[misc]
        output = requests.get(f"{service.url}/executions/{each['id']}/output", timeout=60).content
        lost += output != EXPECTED
    done.set()
    looking.join()
    say(f"{WRITERS} executions, 1,000 lines a second for 20 s: outputs not exact", str(lost))
    say("  a list meanwhile, p50", f"{statistics.median(slowest) * 1000:.0f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Installation(Path(folder)) as service:
        service.manage("migrate", "--verbosity", "0")
        service.start_server()
        worker = service.start_worker(
            EXECUTION_COMMAND="sh -c 'eval \"$CONTEXT\"'",
            EXECUTION_GRACE_PERIOD="1",
            WORKER_CONCURRENCY="60",
        )
        flood(service, worker)
        delay(service)
        many_writers(service)
        worker.kill()  # the rates are the server's
        readers(service)


if __name__ == "__main__":
    main()
