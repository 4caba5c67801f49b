"""The real worker and the real server, as processes."""

import signal
import sys
import time
from collections import Counter

import pytest
import requests

from executions.tests.helpers import start_deaf_worker
from executions.tests.installation import descendants, interrupt, is_alive, wait_for


@pytest.fixture
def service(installation):
    installation.start_server()
    return installation


def test_an_execution_goes_from_pending_to_completed(service):
    created = service.post(context="sleep 0.5; echo done")
    assert created["status"] == "pending"

    service.start_worker(EXECUTION_COMMAND="sh -c 'eval \"$CONTEXT\"'")
    running = service.wait_for_status(created, "running")
    assert running["completed_at"] is None
    ended = service.wait_for_end(created)

    assert (ended["status"], ended["exit_code"], ended["output"]) == ("completed", 0, "done\n")
    assert ended["started_at"] < ended["running_at"] < ended["completed_at"]


def test_the_default_command_reports_what_it_was_given(service):
    service.start_worker()

    ended = service.wait_for_end(service.post("-p", "--help", context="{brace} %s\\n $(id)"))

    assert ended["output"] == "project -p\nbead --help\ncontext {brace} %s\\n $(id)\n"


def test_a_worker_wakes_at_a_commit_and_not_at_a_poll(service):
    start_deaf_worker(service)

    for _ in range(5):
        assert service.wait_for_end(service.post(context="true"))["status"] == "completed"
    running = service.post(context="sleep 1000")
    service.wait_for_status(running, "running")
    requests.post(f"{service.url}/executions/{running['id']}/cancel", timeout=5)
    assert service.wait_for_end(running)["status"] == "cancelled"


def test_the_environment_names_the_execution_and_no_secret(service):
    service.start_worker(
        EXECUTION_COMMAND="env", EXECUTION_ENV="API_KEY", API_KEY="k", SECRET_KEY="hidden"
    )

    created = service.post("p", "b", context="c")
    ended = service.wait_for_end(created)

    environment = dict(line.split("=", 1) for line in ended["output"].splitlines())
    assert environment.keys() - {"PATH", "HOME", "LANG", "PWD"} == {
        "API_KEY",
        "EXECUTION_ID",
        "PROJECT_ID",
        "BEAD_ID",
        "CONTEXT",
    }
    assert environment["EXECUTION_ID"] == created["id"]


def test_a_project_runs_in_its_workspace(service, tmp_path):
    (tmp_path / "workspaces" / "p").mkdir(parents=True)
    service.start_worker(EXECUTION_COMMAND="pwd", EXECUTION_WORKSPACES=str(tmp_path / "workspaces"))

    inside, without, outside = (
        service.wait_for_end(service.post(name)) for name in ("p", "q", "../p")
    )

    assert inside["output"].strip() == str(tmp_path / "workspaces" / "p")
    assert "execution-" in without["output"]
    assert (outside["status"], outside["failure_reason"]) == ("failed", "start_error")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [("no-such-program", "no-such-program"), ("echo {context}", "option")],
)
def test_what_can_not_start_has_failed_with_a_sentence(service, command, sentence):
    service.start_worker(EXECUTION_COMMAND=command)

    ended = service.wait_for_end(service.post(context="--version"))

    assert (ended["status"], ended["failure_reason"]) == ("failed", "start_error")
    assert sentence in ended["error"]
    assert ended["running_at"] is None
    assert ended["exit_code"] is None


def test_200_executions_of_20_projects_complete_once_each(service, tmp_path):
    """Each writes a line into its project's file: twice there would be run twice."""
    script = 'echo "$EXECUTION_ID" >> "$0/$PROJECT_ID"; echo "$BEAD_ID"'
    for name in ("one", "two"):
        service.start_worker(
            name=name, EXECUTION_COMMAND=f"sh -c '{script}' {tmp_path}", WORKER_CONCURRENCY="8"
        )
    created = [service.post(f"p{n % 20}", f"b{n}") for n in range(200)]

    ended = [service.wait_for_end(each) for each in created]

    assert Counter(each["status"] for each in ended) == {"completed": 200}
    assert [each["output"] for each in ended] == [f"b{n}\n" for n in range(200)]
    for number in range(20):
        started = (tmp_path / f"p{number}").read_text().split()
        # Oldest first, one at a time.
        assert started == [each["id"] for each in created[number::20]]


def test_no_two_of_a_project_run_at_once(service):
    service.start_worker(EXECUTION_COMMAND="sleep 0.3")
    created = [service.post("p") for _ in range(3)] + [service.post("q")]

    ended = [service.wait_for_end(each) for each in created]

    spans = [(each["running_at"], each["completed_at"]) for each in ended]
    assert spans[0][1] <= spans[1][0]
    assert spans[1][1] <= spans[2][0]
    assert spans[3][0] < spans[1][0]  # another project does not wait for them


def test_a_long_execution_keeps_its_lease(service):
    service.start_worker(EXECUTION_COMMAND="sleep 3", WORKER_LEASE="1", WORKER_HEARTBEAT="0.3")

    assert service.wait_for_end(service.post())["status"] == "completed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_worker_stops_at_once(installation, number):
    worker = installation.start_worker()
    below = descendants(worker.pid)

    began = time.monotonic()
    assert interrupt(worker, number) == 0
    assert time.monotonic() - began < 5
    assert below
    assert not any(is_alive(each.pid) for each in below)
    pipes = installation.data_dir / "executions.sqlite3-workers"
    assert not pipes.exists() or not list(pipes.iterdir())


def test_sigterm_claims_nothing_more_and_lets_what_runs_end(service):
    worker = service.start_worker(EXECUTION_COMMAND="sh -c 'sleep 1; echo well'")
    running = service.post("p")
    service.wait_for_status(running, "running")

    worker.send_signal(signal.SIGTERM)
    waiting = service.post("q")

    assert worker.wait(timeout=30) == 0
    assert service.get(running)["output"] == "well\n"
    assert service.get(waiting)["status"] == "pending"


def test_make_run_serves_works_and_stops_leaving_nothing(installation, tmp_path):
    process = installation.start(sys.executable, "manage.py", "run", OPEN_ACCESS="")
    wait_for(installation.answers)
    assert f"http://127.0.0.1:{installation.port}/" in installation.printed

    assert installation.wait_for_end(installation.post())["status"] == "completed"
    below = descendants(process.pid)
    assert len(below) >= 3

    assert interrupt(process, signal.SIGINT) == 0
    assert not any(is_alive(each.pid) for each in below)


def test_make_run_leaves_access_as_the_environment_says(installation):
    installation.start(sys.executable, "manage.py", "run", OPEN_ACCESS="off")
    wait_for(installation.answers)

    assert requests.get(f"{installation.url}/executions/", timeout=5).status_code == 401


@pytest.mark.parametrize("charset", ["hex", "undefined", "unicode_escape", "utf-16"])
def test_a_query_is_utf_8_whatever_a_header_says(service, charset):
    service.post("é")

    answer = requests.get(
        f"{service.url}/executions/?project_id=%C3%A9",
        headers={"Content-Type": f"application/json; charset={charset}"},
        timeout=5,
    )

    assert (answer.status_code, len(answer.json())) == (200, 1)
