"""The process runner, with real processes."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from executions.runners.base import Launch
from executions.runners.process import ProcessRunner
from executions.tests.installation import is_alive, wait_for


@pytest.fixture
def runner():
    runner = ProcessRunner()
    yield runner
    runner.close()


class Followed:
    """An attempt with the output that it has given so far."""

    def __init__(self, attempt):
        self.attempt = attempt
        self.output = b""
        self.complete = False

    def follow(self):
        descriptors = [self.attempt.event_fileno(), self.attempt.output_fileno()]
        select.select(descriptors, [], [], 0.05)
        self.attempt.follow()
        data = self.attempt.read_output(1 << 20)
        self.output += data or b""
        self.complete = self.complete or data == b""
        return self.attempt.outcome and self.complete

    def until(self, text):
        wait_for(lambda: self.follow() or text in self.output)

    def end(self):
        wait_for(self.follow)
        return self.attempt.outcome


def launch(runner, argv, workspace=None, **environment):
    launch = Launch(
        execution_id="1",
        claim="1",
        argv=argv,
        environment={"PATH": os.defpath, **environment},
        workspace=workspace,
    )
    return Followed(runner.start(launch))


def run(runner, script):
    """A shell's script; whoever calls this closes the attempt."""
    return launch(runner, ["sh", "-c", script])


@pytest.fixture
def start(runner):
    started = []

    def start(*argv, **options):
        started.append(launch(runner, argv, **options))
        return started[-1]

    yield start
    for each in started:
        each.attempt.close()


def shell(start, script, **options):
    return start("sh", "-c", script, **options)


def test_output_and_exit_code(start):
    followed = shell(start, "echo out; echo err >&2; exit 3")

    outcome = followed.end()

    assert followed.output == b"out\nerr\n"
    assert (outcome.exit_code, outcome.failure_reason) == (3, None)
    assert followed.attempt.running_at is not None


def test_every_byte_comes_through(start):
    followed = start(sys.executable, "-c", "import os; os.write(1, bytes(range(256)) * 20000)")
    followed.end()

    assert followed.output == bytes(range(256)) * 20000


@pytest.mark.parametrize("name", ["SEGV", "INT", "TERM", "HUP", "PIPE"])
def test_a_signal_is_128_and_its_number(start, name):
    """None of them is ignored from the start, as it may be by those who start the command."""
    number = getattr(signal, f"SIG{name}")

    assert shell(start, f"kill -{name} $$; sleep 1").end().exit_code == 128 + number


def test_arguments_reach_the_command_as_they_are(start):
    followed = start("printf", "%s|", "a b", "$(id)", "'", "", "é")
    followed.end()

    assert followed.output.decode() == "a b|$(id)|'||é|"


def test_the_environment_is_what_was_given_and_the_least_that_programs_need(start, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "s")
    monkeypatch.setenv("HOME", "/")
    monkeypatch.delenv("LANG", raising=False)
    followed = start("env", MINE="1")
    followed.end()

    assert sorted(followed.output.split()) == [b"HOME=/", b"MINE=1", f"PATH={os.defpath}".encode()]


def test_the_workspace_is_the_working_directory(start, tmp_path):
    followed = start("pwd", workspace=tmp_path)
    followed.end()

    assert followed.output.decode().strip() == str(tmp_path)


def test_without_a_workspace_it_is_an_empty_folder_that_is_removed(start):
    followed = shell(start, "ls -A; touch x; pwd")
    followed.end()

    folder = Path(followed.output.decode().strip())
    assert folder.name.startswith("execution-")
    wait_for(lambda: not folder.exists())


def test_there_is_nothing_to_read_and_no_terminal(start):
    followed = shell(start, "cat; tty")
    followed.end()

    assert followed.output == b"not a tty\n"


@pytest.mark.parametrize(
    ("argv", "folder", "sentence"),
    [
        (["no-such-program"], None, "no-such-program can't be started: No such file"),
        (["/etc/passwd"], None, "/etc/passwd can't be started: Permission denied"),
        (["/"], None, "/ can't be started: Permission denied"),
        (["echo", "x" * 200_000], None, "Argument list too long"),
        (["echo", "a\0b"], None, "null byte"),
        (["pwd"], "/no/such/folder", "/no/such/folder can't be entered: No such file"),
        (["pwd"], "/etc/passwd", "/etc/passwd can't be entered: Not a directory"),
    ],
)
def test_what_can_not_be_started_is_told_in_a_sentence(start, argv, folder, sentence):
    outcome = start(*argv, workspace=folder and Path(folder)).end()

    assert (outcome.exit_code, outcome.failure_reason) == (None, "start_error")
    assert sentence in outcome.error
    assert outcome.error.endswith(".")


def test_what_a_command_leaves_behind_ends_with_it(start):
    followed = shell(start, "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; exit 0")

    assert followed.end().exit_code == 0
    left = [int(pid) for pid in followed.output.split()]
    assert len(left) == 2
    assert not any(is_alive(pid) for pid in left)


# A shell that does not end for SIGTERM, with a child in its group and one that has left it.
STUBBORN = """
trap 'echo asked' TERM
sleep 1000 & echo $!
setsid sh -c 'trap "" TERM; echo $$; while :; do sleep 0.1; done' &
sleep 0.2; echo ready
while :; do sleep 0.1; done
"""


def test_stop_asks_and_force_ends_everything(start):
    followed = shell(start, STUBBORN)
    followed.until(b"ready")

    followed.attempt.stop(force=False)
    followed.until(b"asked")
    assert followed.attempt.outcome is None
    followed.attempt.stop(force=True)

    assert followed.end().exit_code == 128 + signal.SIGKILL
    assert not any(is_alive(int(pid)) for pid in followed.output.split() if pid.isdigit())


def test_stop_lets_a_command_end_well(start):
    followed = shell(start, "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    followed.until(b"ready")

    followed.attempt.stop(force=False)

    assert followed.end().exit_code == 5
    assert followed.output.endswith(b"bye\n")


def test_a_killed_supervisor_takes_everything_along(start):
    followed = shell(start, "setsid sleep 1000 & echo $!; sleep 1000 & echo $!; echo $$; wait")
    wait_for(lambda: followed.follow() or followed.output.count(b"\n") == 3)
    running = [int(pid) for pid in followed.output.split()]

    psutil.Process(running[-1]).parent().kill()

    assert followed.end().failure_reason == "worker_lost"
    wait_for(lambda: not any(is_alive(pid) for pid in running))


def test_a_runner_goes_on_when_its_supervisor_was_killed(runner, start):
    running = shell(start, "echo $$; sleep 0.5")
    running.until(b"\n")

    supervisor = psutil.Process(int(running.output)).parent().parent()
    supervisor.kill()
    wait_for(lambda: not is_alive(supervisor.pid))

    assert shell(start, "exit 4").end().exit_code == 4
    assert running.end().exit_code == 0


def supervisor_of(followed):
    """The process id of the supervisor of a command that prints it."""
    followed.end()
    followed.attempt.close()
    return int(followed.output)


def test_a_supervisor_takes_one_command_after_the_other(runner):
    supervisors = {supervisor_of(run(runner, "echo $PPID")) for _ in range(5)}
    assert len(supervisors) == 1

    both = [run(runner, "echo $PPID; sleep 0.3") for _ in range(2)]
    assert len({supervisor_of(each) for each in both} | supervisors) == 2


def test_a_signal_for_what_has_ended_does_not_reach_the_next(runner):
    first = run(runner, "echo $PPID")
    first.end()
    first.attempt.stop(force=True)
    supervisor = supervisor_of(first)

    assert supervisor_of(run(runner, "echo $PPID; sleep 0.3")) == supervisor


def test_a_supervisor_that_is_killed_while_it_rests_is_replaced(runner):
    supervisor = supervisor_of(run(runner, "echo $PPID"))
    os.kill(supervisor, signal.SIGKILL)
    wait_for(lambda: not is_alive(supervisor))

    assert supervisor_of(run(runner, "echo $PPID")) != supervisor


def test_a_supervisor_that_still_removes_a_folder_holds_nobody_up(runner):
    supervisor = supervisor_of(run(runner, "echo $PPID; seq 30000 | xargs touch"))

    assert supervisor_of(run(runner, "echo $PPID")) != supervisor


def test_a_sweep_lets_resting_supervisors_go(runner):
    supervisor = supervisor_of(run(runner, "echo $PPID"))

    runner.sweep(lambda ids: set())

    wait_for(lambda: not is_alive(supervisor))
    assert supervisor_of(run(runner, "echo $PPID")) != supervisor


LEFT_UNREAD = """
import os, time
from executions.runners.base import Launch
from executions.runners.process import ProcessRunner
runner = ProcessRunner()
script = "seq 1000 | xargs touch"
attempt = runner.start(Launch(
    execution_id="1", claim="1", argv=["sh", "-c", script], environment={"PATH": os.defpath},
    workspace=None,
))
while attempt.outcome is None:
    attempt.follow()
attempt.close()
time.sleep(1)  # its folder is removed and it is ready again, but nobody has read that
runner.sweep(None)
time.sleep(0.5)
runner.close()
"""


def test_a_supervisor_goes_without_a_word():
    done = subprocess.run([sys.executable, "-c", LEFT_UNREAD], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_temporary_folder_nothing_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    runner = ProcessRunner()
    supervisor = supervisor_of(run(runner, "echo $PPID"))
    (tmp_path / "temporary").rmdir()

    failed = run(runner, "true")
    outcome = failed.end()
    failed.attempt.close()
    (tmp_path / "temporary").mkdir()

    assert outcome.failure_reason == "start_error"
    assert "temporary folder" in outcome.error
    assert supervisor_of(run(runner, "echo $PPID")) == supervisor
    runner.close()


WORKER = """
import sys, time
from executions.runners.base import Launch
from executions.runners.process import ProcessRunner
runner = ProcessRunner()
script = "echo $$; setsid sleep 1000 & echo $!; sleep 1000"
attempt = runner.start(Launch(
    execution_id="1", claim="1", argv=["sh", "-c", script], environment={"PATH": "/usr/bin:/bin"},
    workspace=None,
))
output = b""
while output.count(b"\\n") < 2:
    output += attempt.read_output(100) or b""
print(*output.split(), flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a daemon is out of reach without a subreaper")
def test_a_killed_worker_takes_everything_along():
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdout=subprocess.PIPE, start_new_session=True
    )
    assert worker.stdout is not None
    pids = [int(pid.strip(b"b'")) for pid in worker.stdout.readline().split()]
    below = psutil.Process(worker.pid).children(recursive=True)
    assert len(pids) == 2
    assert all(is_alive(pid) for pid in pids)

    worker.kill()
    worker.wait()
    worker.stdout.close()

    wait_for(lambda: not any(is_alive(pid) for pid in pids), timeout=10)
    wait_for(lambda: not any(is_alive(each.pid) for each in below), timeout=10)


def test_many_at_once(start):
    began = time.monotonic()
    followed = [shell(start, f"sleep 0.5; echo {n}; exit {n}") for n in range(20)]

    assert [each.end().exit_code for each in followed] == list(range(20))
    assert time.monotonic() - began < 10  # one after the other would take as long
    assert [int(each.output) for each in followed] == list(range(20))
