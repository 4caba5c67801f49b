"""How executions are ended: cancel, timeout, shutdown; with real processes and signals."""

import signal
import time
from datetime import datetime

import pytest
import requests

from executions.tests.installation import descendants, is_alive, wait_for

RUN_CONTEXT = "sh -c 'eval \"$CONTEXT\"'"

# A shell that does not end for SIGTERM, with a child in its group and one that has left it.
STUBBORN = """
trap '' TERM
sleep 1000 &
setsid sh -c 'trap "" TERM; while :; do sleep 0.1; done' &
echo ready
while :; do sleep 0.1; done
"""


@pytest.fixture
def service(installation):
    installation.start_server()
    return installation


@pytest.fixture
def worker(service):
    return service.start_worker(EXECUTION_COMMAND=RUN_CONTEXT, EXECUTION_GRACE_PERIOD="1")


def call(service, execution, name):
    return requests.post(f"{service.url}/executions/{execution['id']}/{name}", timeout=30)


def start(service, script, **fields):
    """Start it, and wait until it has printed something."""
    execution = service.post(context=script, **fields)
    wait_for(lambda: service.get(execution)["output"])
    return execution


def below_supervisor(worker):
    """The processes of the commands: all below the worker but the supervisors."""
    return [
        each for each in descendants(worker.pid) if "supervisor.py" not in " ".join(each.cmdline())
    ]


def seconds(execution):
    """How long it ran."""
    ended, began = (
        datetime.fromisoformat(execution[name]) for name in ("completed_at", "running_at")
    )
    return (ended - began).total_seconds()


def test_cancel_lets_a_command_end_well(service, worker):
    execution = start(
        service, "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    )

    assert call(service, execution, "cancel").status_code == 202
    ended = service.wait_for_end(execution)

    assert (ended["status"], ended["exit_code"]) == ("cancelled", 5)
    assert ended["output"].startswith("ready\n")
    assert ended["output"].endswith("bye\n")
    assert (ended["failure_reason"], ended["error"]) == (None, None)
    assert call(service, execution, "cancel").status_code == 200


def test_cancel_reaches_what_ignores_it_and_what_left_the_group(service, worker):
    execution = start(service, STUBBORN)
    running = below_supervisor(worker)
    assert len(running) >= 3

    began = time.monotonic()
    assert call(service, execution, "cancel").status_code == 202
    ended = service.wait_for_end(execution)

    assert 1 <= time.monotonic() - began < 10
    assert (ended["status"], ended["exit_code"]) == ("cancelled", 128 + signal.SIGKILL)
    assert not any(is_alive(each.pid) for each in running)


def test_timeout_counts_from_running_and_reaches_what_ignores_it(service, worker):
    execution = start(service, STUBBORN, timeout=2)
    running = below_supervisor(worker)

    ended = service.wait_for_end(execution)

    assert (ended["status"], ended["failure_reason"]) == ("failed", "timeout")
    assert "2 s" in ended["error"]
    assert 3 <= seconds(ended) < 8  # the timeout and the grace period
    assert not any(is_alive(each.pid) for each in running)


def test_what_ends_in_time_is_not_touched(service, worker):
    ended = service.wait_for_end(start(service, "echo x; sleep 1", timeout=5))

    assert (ended["status"], ended["exit_code"]) == ("completed", 0)


def test_retry_runs_the_same_again(service, worker):
    execution = service.wait_for_end(service.post(context="echo $BEAD_ID; exit 3"))

    answer = call(service, execution, "retry")

    assert answer.status_code == 201
    ended = service.wait_for_end(answer.json())
    assert (ended["exit_code"], ended["output"]) == (3, "b\n")
    assert ended["retry_of"] == execution["id"]


def test_cancel_without_any_worker(service):
    waiting = service.post("p")

    assert call(service, waiting, "cancel").json()["status"] == "cancelled"
    worker = service.start_worker(
        name="lost", EXECUTION_COMMAND="sleep 1000", WORKER_LEASE="2", WORKER_HEARTBEAT="0.5"
    )
    running = service.post("q")
    service.wait_for_status(running, "running")
    worker.kill()
    worker.wait()

    answer = call(service, running, "cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    service.start_worker(name="next")
    assert service.wait_for_end(running)["status"] == "cancelled"


def test_the_list_shows_who_works_and_what_waits_for_its_cancel(service):
    worker = service.start_worker(name="busy", EXECUTION_COMMAND="sleep 1000")
    running = service.post()
    service.wait_for_status(running, "running")
    wait_for(lambda: service.get(running)["running_at"])
    service.suspend(worker)

    call(service, running, "cancel")
    [shown] = requests.get(f"{service.url}/executions/?status=running", timeout=5).json()

    assert shown["worker"] == "busy"
    assert shown["running_at"] is not None
    assert shown["cancel_requested_at"] is not None
    worker.send_signal(signal.SIGCONT)
    assert service.wait_for_end(running)["status"] == "cancelled"


def test_shutdown_waits_then_stops_and_says_so(service, worker):
    execution = start(service, STUBBORN)
    below = descendants(worker.pid)

    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(timeout=30) == 0
    assert time.monotonic() - began >= 2  # the grace period, once to end and once to be stopped
    ended = service.get(execution)
    assert (ended["status"], ended["failure_reason"]) == ("failed", "worker_lost")
    assert "shut down" in ended["error"]
    assert not any(is_alive(each.pid) for each in below)


def test_a_second_sigterm_does_not_wait(service):
    worker = service.start_worker(EXECUTION_COMMAND=RUN_CONTEXT, EXECUTION_GRACE_PERIOD="600")
    execution = start(service, STUBBORN)

    worker.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert worker.poll() is None
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(timeout=10) == 0
    ended = service.get(execution)
    assert (ended["status"], ended["failure_reason"]) == ("failed", "worker_lost")


def test_a_cancel_is_carried_out_during_shutdown(service):
    worker = service.start_worker(EXECUTION_COMMAND=RUN_CONTEXT, EXECUTION_GRACE_PERIOD="600")
    execution = start(service, "echo ready; sleep 1000")
    worker.send_signal(signal.SIGTERM)

    call(service, execution, "cancel")

    assert worker.wait(timeout=10) == 0
    assert service.get(execution)["status"] == "cancelled"


def test_a_database_that_is_gone_for_20_seconds_is_waited_for(service):
    """Locked by somebody else: the API says so, the worker loses nothing."""
    service.start_worker(EXECUTION_COMMAND=RUN_CONTEXT, EXECUTION_PROJECT_CONCURRENCY="9")
    script = "for i in 1 2 3 4 5; do echo $i; sleep 1; done"
    running = start(service, script)
    waiting = service.post("other", context="echo other")
    service.wait_for_end(waiting)

    with service.database.locked():
        began = time.monotonic()
        refused = requests.post(
            f"{service.url}/executions/", json={"project_id": "p", "bead_id": "b"}, timeout=60
        )
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert requests.get(f"{service.url}/executions/", timeout=5).status_code == 200
        time.sleep(max(0, 20 - (time.monotonic() - began)))

    ended = service.wait_for_end(running)
    assert (ended["status"], ended["output"]) == ("completed", "1\n2\n3\n4\n5\n")
    assert seconds(ended) > 5
    assert service.wait_for_end(service.post(context="echo on"))["output"] == "on\n"
    assert len(requests.get(f"{service.url}/executions/", timeout=5).json()) == 3
