"""Killed workers and their containers: none ends, none is started twice, no byte is lost."""

import signal
import sys
import time
from collections import Counter

import pytest
import requests

from executions.tests.held_worker import POINTS
from executions.tests.installation import interrupt, wait_for
from executions.tests.test_docker_runner import STUBBORN, container_of, output_of

LINES = 30
COUNT = f"echo $EXECUTION_ID >> started; for i in $(seq 1 {LINES}); do echo $i; sleep 0.2; done"
COUNTED = "".join(f"{number}\n" for number in range(1, LINES + 1))

DONE = {("completed", None)}
LOST = {("completed", None), ("failed", "worker_lost")}


@pytest.fixture
def service(containers, tmp_path):
    """A service whose containers can leave something in their project's workspace."""
    containers.environment["EXECUTION_WORKSPACES"] = str(tmp_path / "workspaces")
    for number in range(3):
        folder = tmp_path / "workspaces" / f"p{number}"
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        folder.joinpath("started").touch(mode=0o666)
        folder.joinpath("started").chmod(0o666)
    return containers


def assert_each_ended_once(engine, service, created, *, outcomes):
    """All have ended, as `outcomes` allows; none was started twice; no container is left."""
    ended = [wait_for(lambda e=each: service.ended(e), timeout=60) for each in created]

    assert {(each["status"], each["failure_reason"]) for each in ended} <= outcomes
    workspaces = service.data_dir.parent / "workspaces"
    starts = Counter("".join(file.read_text() for file in workspaces.rglob("started")).split())
    for each in ended:
        assert starts[each["id"]] == 1 or (each["status"] == "failed" and not starts[each["id"]])
        if each["status"] == "completed":
            assert output_of(service, each).decode() == COUNTED
    wait_for(lambda: not engine.containers())
    assert [service.get(each) for each in created] == ended
    return ended


def kill(process):
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("point", "outcomes"),
    [
        ("before the claim", DONE),
        ("after the claim", LOST),
        ("after the container is created", LOST),
        ("after the container is started", DONE),
        ("before the end is stored", DONE),
        ("before the end is committed", DONE),
    ],
)
def test_a_worker_killed_at_a_point(engine, service, tmp_path, point, outcomes):
    assert point in POINTS
    created = [service.post(f"p{number}", context=COUNT) for number in range(3)]
    marker = tmp_path / "held"
    held = service.start(
        *(sys.executable, "-m", "executions.tests.held_worker", point, str(marker))
    )
    wait_for(marker.exists)

    kill(held)
    service.start_worker(name="next")

    assert_each_ended_once(engine, service, created, outcomes=outcomes)


def test_a_killed_workers_containers_are_adopted_at_the_very_byte(engine, service):
    worker = service.start_worker(name="first")
    created = [service.post(f"p{number}", context=COUNT) for number in range(3)]
    for each in created:
        wait_for(lambda e=each: len(output_of(service, e)) > 5)
    before = {each.id for each in engine.containers()}

    kill(worker)
    time.sleep(1)  # they write on, and nobody reads it
    service.start_worker(name="second")

    wait_for(lambda: all(service.get(each)["worker"] == "second" for each in created))
    assert {each.id for each in engine.containers()} <= before
    assert_each_ended_once(engine, service, created, outcomes=DONE)


def test_an_output_beyond_the_limit_is_adopted_too(engine, service):
    options = {"EXECUTION_OUTPUT_LIMIT": "20000"}
    script = "seq 1 20000; sleep 4; seq 20001 40000"
    worker = service.start_worker(name="first", **options)
    created = service.post("p0", context=script)
    size = len("".join(f"{number}\n" for number in range(1, 20001)))
    wait_for(lambda: service.get(created)["output_size"] == size)

    kill(worker)
    service.start_worker(name="second", **options)
    ended = wait_for(lambda: service.ended(created), timeout=60)

    written = "".join(f"{number}\n" for number in range(1, 40001)).encode()
    begin, end = output_of(service, ended).split(b" bytes left out ...]\n")
    assert (ended["output_size"], ended["output_truncated"]) == (len(written), True)
    begin, left_out = begin.split(b"\n[... ")
    assert begin == written[:10000]
    assert end == written[10000 + int(left_out) :]
    assert len(end) >= 10000


def test_a_large_output_is_adopted_too(engine, service):
    worker = service.start_worker(name="first")
    created = service.post("p0", context="head -c 18000000 /dev/zero; echo; sleep 12; echo end")
    wait_for(lambda: service.get(created)["output_size"] > 17_000_000, timeout=60)

    kill(worker)
    service.start_worker(name="second")

    ended = wait_for(lambda: service.ended(created), timeout=60)
    assert (ended["status"], ended["output_size"]) == ("completed", 18_000_005)
    assert output_of(service, ended).endswith(b"\0\0\nend\n")


def test_sigterm_hands_containers_over_at_once_and_stops_none(engine, service):
    worker = service.start_worker(name="first", WORKER_LEASE="300")
    created = [service.post(f"p{number}", context=COUNT) for number in range(3)]
    for each in created:
        container_of(engine, each)
        service.wait_for_status(each, "running")
    service.start_worker(name="second", WORKER_LEASE="300")

    assert interrupt(worker, signal.SIGTERM) == 0

    wait_for(lambda: all(service.get(each)["worker"] == "second" for each in created), timeout=5)
    assert_each_ended_once(engine, service, created, outcomes=DONE)


def test_a_cancel_and_a_timeout_reach_containers_whose_worker_is_gone(engine, service):
    worker = service.start_worker(name="first")
    cancelled = service.post("p0", context=STUBBORN)
    late = service.post("p1", context=STUBBORN, timeout=2)
    in_time = service.post("p2", context="sleep 1; echo well", timeout=2)
    overran = service.post("p3", context="sleep 3; exit 7", timeout=2)
    for each in (cancelled, late, in_time, overran):
        container_of(engine, each)

    kill(worker)
    requests.post(f"{service.url}/executions/{cancelled['id']}/cancel", timeout=30)
    time.sleep(3)
    service.start_worker(name="second", EXECUTION_GRACE_PERIOD="1")

    assert service.wait_for_end(cancelled)["status"] == "cancelled"
    assert service.wait_for_end(late)["failure_reason"] == "timeout"
    # It ended in time, though nobody saw it.
    assert service.wait_for_end(in_time)["status"] == "completed"
    assert service.wait_for_end(overran)["failure_reason"] == "timeout"
    wait_for(lambda: not engine.containers())


def test_a_cancel_while_the_engine_is_away_reaches_what_is_adopted(engine, service):
    worker = service.start_worker(name="first")
    created = service.post("p0", context=STUBBORN)
    wait_for(lambda: b"began" in output_of(service, created))
    service.start_worker(name="second", EXECUTION_GRACE_PERIOD="1")

    kill(worker)
    engine.kill()
    wait_for(lambda: service.get(created)["worker"] == "second")
    requests.post(f"{service.url}/executions/{created['id']}/cancel", timeout=30)
    time.sleep(3)  # until its new worker knows, and the grace period is over
    engine.start()

    ended = service.wait_for_end(created)
    assert (ended["status"], ended["exit_code"]) == ("cancelled", 128 + signal.SIGKILL)


def test_a_worker_that_slept_through_its_lease_leaves_its_containers_alone(engine, service):
    sleeper = service.start_worker(name="sleeper")
    created = [service.post(f"p{number}", context=COUNT) for number in range(3)]
    for each in created:
        wait_for(lambda e=each: len(output_of(service, e)) > 5)
    service.suspend(sleeper)

    service.start_worker(name="awake")
    wait_for(lambda: all(service.get(each)["worker"] == "awake" for each in created))
    sleeper.send_signal(signal.SIGCONT)

    assert_each_ended_once(engine, service, created, outcomes=DONE)
    assert sleeper.poll() is None


def test_a_container_that_somebody_removes(engine, service):
    service.start_worker()
    created = service.post(context="echo begun; sleep 1000")
    wait_for(lambda: output_of(service, created) == b"begun\n")

    with engine.client() as client:
        client.containers.get(f"execution-{created['id']}").remove(force=True)

    ended = service.wait_for_end(created)
    assert (ended["status"], ended["output"]) == ("failed", "begun\n")
    assert ended["failure_reason"] == "worker_lost"
    assert "removed" in ended["error"]


def test_what_no_execution_owns_is_removed_and_nothing_else(engine, service, tmp_path):
    labels = ["executions.installation", "executions.execution"]
    service.start_worker(name="first")
    running = service.post(context="sleep 1000")
    mine = container_of(engine, running).labels[labels[0]]
    lost, theirs = "01a204e9-82c4-73ea-8b12-b77399aed641", "01a204e9-82c4-73ea-8b12-b77399aed642"
    with engine.client() as client:
        for name, marks in {
            f"execution-{lost}": {labels[0]: mine, labels[1]: lost},
            f"execution-{theirs}": {labels[0]: "another", labels[1]: theirs},
            "a-copy": {labels[0]: mine, labels[1]: theirs},
            "a-persons-own": {},
        }.items():
            client.containers.run(
                *("executions-test", ["sleep", "1000"]),
                **{"name": name, "labels": marks, "network_mode": "none", "detach": True},
            )

    service.start_worker(name="second")  # it sweeps when it starts

    def names():
        return {each.name for each in engine.containers()}

    wait_for(lambda: f"execution-{lost}" not in names())
    assert names() == {
        f"execution-{running['id']}",
        f"execution-{theirs}",
        "a-copy",
        "a-persons-own",
    }
