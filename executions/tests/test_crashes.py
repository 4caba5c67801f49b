"""Every way to be killed: each accepted execution ends exactly once, and nothing is left."""

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import requests

from executions.tests.held_worker import POINTS
from executions.tests.installation import is_alive, wait_for

QUICK = {"WORKER_LEASE": "2", "WORKER_HEARTBEAT": "0.5", "EXECUTION_GRACE_PERIOD": "1"}


@pytest.fixture
def service(installation):
    installation.start_server()
    return installation


@pytest.fixture
def witness(tmp_path):
    """A command that tells when it is started, and the file that it tells it in."""
    path = tmp_path / "started"
    path.touch()
    return path


def command(witness, then="sleep 0.1"):
    return f"sh -c 'echo $EXECUTION_ID >> {witness}; {then}'"


def commands_left(witness):
    """Processes of the commands of this test that are still there."""
    left = []
    for process in psutil.process_iter(["cmdline"]):
        if process.pid != os.getpid() and str(witness) in " ".join(process.info["cmdline"] or []):
            left.append(process)
    return left


def sleeping_below(witness, project):
    """The `sleep` of the command of a project."""
    return [
        child
        for each in commands_left(witness)
        for child in each.children()
        if child.name() == "sleep" and each.environ()["PROJECT_ID"] == project
    ]


def kill(process):
    process.kill()
    process.wait()


def assert_each_ended_once(service, created, witness, *, outcomes):
    """All have ended, as `outcomes` allows; none was started twice; no process is left."""
    ended = [service.wait_for_end(each) for each in created]

    assert {(each["status"], each["failure_reason"]) for each in ended} <= outcomes
    starts = Counter(witness.read_text().split())
    assert all(count == 1 for count in starts.values()), starts
    for each in ended:
        if each["status"] == "completed":
            assert starts[each["id"]] == 1
    time.sleep(0.5)  # nothing that was late may change what has ended
    assert [service.get(each) for each in created] == ended
    wait_for(lambda: not commands_left(witness))
    return ended


LOST = {("failed", "worker_lost"), ("completed", None)}
DONE = {("completed", None)}


@pytest.mark.parametrize(
    ("point", "outcomes"),
    [
        ("before the claim", DONE),
        ("after the claim", LOST),
        ("after the start", LOST),
        ("before the end is stored", LOST),
        ("before the end is committed", LOST),
    ],
)
def test_a_worker_killed_at_a_point(service, witness, tmp_path, point, outcomes):
    assert point in POINTS
    created = [service.post(f"p{number}") for number in range(3)]
    marker = tmp_path / "held"
    held = service.start(
        *(sys.executable, "-m", "executions.tests.held_worker", point, str(marker)),
        EXECUTION_COMMAND=command(witness),
        **QUICK,
    )
    wait_for(marker.exists)

    kill(held)
    service.start_worker(name="next", EXECUTION_COMMAND=command(witness), **QUICK)

    assert_each_ended_once(service, created, witness, outcomes=outcomes)


def test_a_worker_killed_while_running(service, witness):
    worker = service.start_worker(EXECUTION_COMMAND=command(witness, "sleep 1000"), **QUICK)
    created = [service.post(f"p{number}") for number in range(6)]  # two of them wait
    wait_for(lambda: len(witness.read_text().split()) == 4)

    kill(worker)
    wait_for(lambda: not commands_left(witness), timeout=5)
    killed_at = time.monotonic()
    service.start_worker(name="next", EXECUTION_COMMAND=command(witness), **QUICK)

    ended = assert_each_ended_once(service, created, witness, outcomes=LOST)
    assert time.monotonic() - killed_at < 15
    assert Counter(each["status"] for each in ended) == {"failed": 4, "completed": 2}
    assert all("lost" in each["error"] for each in ended if each["status"] == "failed")


def test_a_worker_of_the_same_name_steals_nothing(service, witness):
    first = service.start_worker(EXECUTION_COMMAND=command(witness, "sleep 3"), **QUICK)
    created = [service.post(f"p{number}") for number in range(3)]
    wait_for(lambda: len(witness.read_text().split()) == 3)

    service.start_worker(EXECUTION_COMMAND=command(witness), **QUICK)

    assert_each_ended_once(service, created, witness, outcomes=DONE)
    assert first.poll() is None


def test_a_worker_that_slept_through_its_lease_changes_nothing(service, witness):
    sleeper = service.start_worker(
        name="sleeper", EXECUTION_COMMAND=command(witness, "sleep 1000"), **QUICK
    )
    created = [service.post("long"), service.post("short")]
    wait_for(lambda: len(witness.read_text().split()) == 2)
    service.suspend(sleeper)
    [child] = wait_for(lambda: sleeping_below(witness, "short"))
    child.kill()  # it ends while its worker sleeps

    service.start_worker(name="awake", EXECUTION_COMMAND=command(witness), **QUICK)
    ended = [service.wait_for_end(each) for each in created]
    assert {each["failure_reason"] for each in ended} == {"worker_lost"}
    sleeper.send_signal(signal.SIGCONT)

    assert_each_ended_once(service, created, witness, outcomes={("failed", "worker_lost")})
    assert is_alive(sleeper.pid)
    service.wait_for_status(service.post("long"), "running", "completed")  # by either of them


@pytest.mark.parametrize("both", [False, True])
def test_a_server_killed_during_posts_keeps_every_201(service, witness, both):
    options = {"EXECUTION_COMMAND": command(witness, "true"), **QUICK}
    worker = service.start_worker(**options)
    [server] = [each for each in service.processes if each is not worker]
    accepted = []
    done = threading.Event()

    def send():
        while not done.is_set():
            try:
                accepted.append(service.post(f"p{random.randrange(50)}"))
            except (requests.ConnectionError, requests.Timeout):
                time.sleep(0.05)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(send)
        wait_for(lambda: len(accepted) >= 40)
        for process in [*psutil.Process(server.pid).children(recursive=True), server]:
            process.kill()
        if both:
            kill(worker)
        done.set()
    server.wait()

    service.start_server()
    if both:
        service.start_worker(name="next", **options)
    assert_each_ended_once(service, accepted, witness, outcomes=LOST if both else DONE)


def test_eight_workers_start_1000_executions_once_each(service, witness):
    for number in range(8):
        service.start_worker(
            name=f"w{number}",
            EXECUTION_COMMAND=command(witness, "true"),
            EXECUTION_PROJECT_CONCURRENCY="8",
        )
    with ThreadPoolExecutor(8) as pool:
        created = list(pool.map(lambda n: service.post(f"p{n % 50}"), range(1000)))

    wait_for(lambda: len(witness.read_text().split()) == 1000, timeout=240)
    assert_each_ended_once(service, created, witness, outcomes=DONE)
    assert "locked" not in service.printed
    assert "Traceback" not in service.printed


def test_a_cancel_at_the_moment_of_completion_has_one_outcome(service, witness):
    service.start_worker(
        EXECUTION_COMMAND=command(witness, "sleep 0.05"), WORKER_CONCURRENCY="8", **QUICK
    )
    url = f"{service.url}/executions"

    def race(number):
        execution = service.post(f"p{number % 8}")
        service.wait_for_status(execution, "running", "completed")
        time.sleep(random.uniform(0, 0.15))
        answer = requests.post(f"{url}/{execution['id']}/cancel", timeout=30)
        return execution, answer.status_code

    with ThreadPoolExecutor(8) as pool:
        raced = list(pool.map(race, range(200)))

    outcomes = Counter()
    for execution, answer in raced:
        status = service.wait_for_end(execution)["status"]
        outcomes[answer, status] += 1
    # Whoever was told that it is cancelled finds it so, and nobody else.
    assert set(outcomes) <= {(202, "cancelled"), (200, "cancelled"), (409, "completed")}
    assert len(outcomes) >= 2, "the race was never close"
    assert sum(outcomes.values()) == 200
