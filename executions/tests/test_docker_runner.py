"""Executions in containers: the real worker with a real Docker Engine."""

import hashlib
import re
import signal
import time
from collections import Counter

import pytest
import requests

from executions.tests.installation import wait_for


@pytest.fixture
def service(containers):
    return containers


@pytest.fixture
def worker(service):
    return service.start_worker()


def output_of(service, execution):
    return requests.get(f"{service.url}/executions/{execution['id']}/output", timeout=30).content


def container_of(engine, execution):
    """The container of an execution, once it runs."""

    def look():
        found = [each for each in engine.containers() if execution["id"] in each.name]
        return found and found[0].status == "running" and found[0]

    return wait_for(look)


def test_an_execution_is_a_container_that_is_removed_when_all_is_stored(engine, service, worker):
    created = service.post(context="echo out; echo err >&2; printf end; exit 3")

    ended = service.wait_for_end(created)

    assert (ended["status"], ended["failure_reason"]) == ("failed", "exit_code")
    assert (ended["exit_code"], ended["output"]) == (3, "out\nerr\nend")
    assert ended["started_at"] < ended["running_at"] < ended["completed_at"]
    wait_for(lambda: not engine.containers())


@pytest.mark.parametrize(
    "script",
    [
        "head -c 3000000 /dev/urandom",  # broken UTF-8, NUL bytes, lines without an end
        "seq 1 100000",
        "printf 'no newline'; sleep 1; printf 'at the end'",
        "printf '\\r\\n\\n\\000\\377'",
        "true",
        # The Engine cuts long lines into pieces, and has its difficulties with their ends.
        "for n in 16383 16384 16385 32768 40000; do head -c $n /dev/zero; echo; echo next; done",
    ],
)
def test_the_output_is_exact(service, worker, script):
    bytes_and_digest = f"{{ {script}; }} > /tmp/o; cat /tmp/o; echo; md5sum < /tmp/o"
    ended = service.wait_for_end(service.post(context=bytes_and_digest))
    assert ended["status"] == "completed"

    output, digest = re.fullmatch(rb"(.*)\n(\w{32})  -\n", output_of(service, ended), re.S).groups()
    assert hashlib.md5(output).hexdigest() == digest.decode()


def test_what_a_container_may(engine, service, tmp_path):
    service.start_worker(
        EXECUTION_CPUS="0.5", EXECUTION_PIDS="50", EXECUTION_READ_ONLY="on", SECRET_KEY="hidden"
    )
    script = "id -u; cat /proc/1/comm; grep -E 'CapEff|NoNewPrivs' /proc/self/status; pwd; env; "
    script += "echo x > /tmp/x && echo y > y; touch /bin/z; ls /sys/class/net; sleep 1000"
    script = script.replace("grep -E 'CapEff|NoNewPrivs'", "cat")
    created = service.post("p", context=script)

    limits = container_of(engine, created).attrs["HostConfig"]
    output = wait_for(lambda: b"lo\n" in (found := output_of(service, created)) and found).decode()

    assert limits["Memory"] == limits["MemorySwap"] == 64 * 1024 * 1024
    assert (limits["NanoCpus"], limits["PidsLimit"]) == (500_000_000, 50)
    assert limits["NetworkMode"] == "none"
    assert output.startswith("1000\n")
    assert "docker-init" in output
    assert re.search(r"CapEff:\s+0000000000000000", output)
    assert re.search(r"CapBnd:\s+0000000000000000", output)  # nor can it ever get one
    assert re.search(r"NoNewPrivs:\s+1", output)
    assert "\n/workspace\n" in output
    assert f"EXECUTION_ID={created['id']}" in output
    assert "hidden" not in output
    assert "DOCKER_HOST" not in output
    assert "touch: /bin/z: Read-only file system" in output
    assert "can't create" not in output


def test_out_of_memory(service, worker):
    ended = service.wait_for_end(service.post(context="head -c 200000000 /dev/zero > /tmp/x"))

    assert (ended["status"], ended["failure_reason"]) == ("failed", "out_of_memory")
    assert "memory" in ended["error"]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("no-such-program {bead_id}", "no-such-program: not found"),
        ("/bin", "Permission denied"),
        ("echo {context}", "option"),
    ],
)
def test_a_command_that_can_not_start(engine, service, command, sentence):
    service.start_worker(EXECUTION_COMMAND=command)

    ended = service.wait_for_end(service.post(context="--version"))

    assert (ended["status"], ended["failure_reason"]) == ("failed", "start_error")
    assert sentence in ended["error"]
    assert ended["exit_code"] is None
    wait_for(lambda: not engine.containers())


def test_a_command_may_end_with_127_itself(service, worker):
    ended = service.wait_for_end(service.post(context="no-such-program"))

    assert (ended["failure_reason"], ended["exit_code"]) == ("exit_code", 127)


def test_an_image_that_has_vanished(engine, service):
    engine.tag_image("vanishing:1")
    service.start_worker(EXECUTION_IMAGE="vanishing:1")
    engine.untag_image("vanishing:1")

    ended = service.wait_for_end(service.post())

    assert (ended["status"], ended["failure_reason"]) == ("failed", "start_error")
    assert "No such image: vanishing:1" in ended["error"]


def test_the_workspace_is_the_projects_own_folder(service, tmp_path):
    workspaces = tmp_path / "workspaces"
    for folder in (workspaces / "p", workspaces / "q", tmp_path / "outside"):
        folder.mkdir(parents=True)
        folder.chmod(0o777)
    (workspaces / "link").symlink_to(tmp_path / "outside")
    service.start_worker(EXECUTION_WORKSPACES=str(workspaces))

    script = "ls -A; echo $PROJECT_ID > made; pwd"
    p, none, up, link = (
        service.wait_for_end(service.post(project, context=script))
        for project in ("p", "none", "../outside", "link")
    )

    assert p["output"] == "/workspace\n"
    assert (workspaces / "p" / "made").read_text() == "p\n"
    assert none["output"] == "/workspace\n"
    for refused in (up, link):
        assert (refused["status"], refused["failure_reason"]) == ("failed", "start_error")
    assert not list((tmp_path / "outside").iterdir())


STUBBORN = "trap 'echo no' TERM; echo began; while true; do sleep 0.1; done"


def test_cancel_reaches_what_ignores_sigterm(engine, service):
    service.start_worker(EXECUTION_GRACE_PERIOD="1")
    created = service.post(context=STUBBORN)
    wait_for(lambda: b"began" in output_of(service, created))

    requests.post(f"{service.url}/executions/{created['id']}/cancel", timeout=30)
    ended = service.wait_for_end(created)

    assert ended["status"] == "cancelled"
    assert ended["exit_code"] == 128 + signal.SIGKILL
    assert "no\n" in ended["output"]
    wait_for(lambda: not engine.containers())


def test_what_is_cancelled_before_its_container_begins_never_does(engine, service):
    service.start_worker(WORKER_LEASE="30")
    engine.pause()
    created = service.post(context="echo begun")
    service.wait_for_status(created, "running")

    requests.post(f"{service.url}/executions/{created['id']}/cancel", timeout=30)
    time.sleep(2)  # until its worker knows
    engine.resume()

    ended = service.wait_for_end(created)
    assert (ended["status"], ended["output"], ended["running_at"]) == ("cancelled", None, None)
    wait_for(lambda: not engine.containers())


def test_a_timeout_reaches_what_ignores_sigterm(service):
    service.start_worker(EXECUTION_GRACE_PERIOD="1")

    ended = service.wait_for_end(service.post(context=STUBBORN, timeout=1))

    assert (ended["status"], ended["failure_reason"]) == ("failed", "timeout")


def test_100_containers_through_8_places(engine, service):
    service.start_worker(WORKER_CONCURRENCY="8", WORKER_LEASE="30")
    created = [service.post(f"p{n}", f"b{n}", context="echo $BEAD_ID") for n in range(100)]

    ended = [wait_for(lambda e=each: service.ended(e), timeout=120) for each in created]

    assert Counter(each["status"] for each in ended) == {"completed": 100}
    assert [each["output"] for each in ended] == [f"b{n}\n" for n in range(100)]
    wait_for(lambda: not engine.containers())


def test_an_engine_that_is_away_is_waited_for(engine, service):
    service.start_worker(WORKER_LEASE="30", EXECUTION_TIMEOUT="300")
    script = "for i in $(seq 1 40); do echo $i; sleep 0.7; done"
    running = service.post("running", context=script)
    quiet = service.post("quiet", context="echo a; sleep 10; exit 5")
    for each in (running, quiet):
        container_of(engine, each)

    engine.kill()
    # `quiet` is silent meanwhile: an Engine that was killed loses the rest of what has ended.
    waiting = service.post("waiting", context="echo at last")
    time.sleep(20)
    engine.start()

    assert service.wait_for_end(waiting)["output"] == "at last\n"
    assert service.wait_for_end(quiet)["output"] == "a\n"
    assert service.get(quiet)["exit_code"] == 5
    ended = wait_for(lambda: service.ended(running), timeout=60)
    assert (ended["status"], ended["output"].split()) == (
        "completed",
        [str(number) for number in range(1, 41)],
    )
    wait_for(lambda: not engine.containers())
