"""Each wrong setting is named before anything starts."""

import stat
import subprocess
import sys

import pytest
from django.conf import settings

from executions.checks import IDS
from executions.tests.installation import Installation

WRONG = {
    "PORT": "eighty",
    "DATA_DIR": "/proc/nowhere",
    "DEBUG": "maybe",
    "DATABASE_URL": "mongo://secret@x/y",
    "OPEN_ACCESS": "flase",
    "HTTPS_ONLY": "perhaps",
    "EXECUTION_RUNNER": "rocket",
    "EXECUTION_COMMAND": "sh -c 'unclosed",
    "EXECUTION_WORKSPACES": "/nowhere/at/all",
    "EXECUTION_ENV": "A=B, C",
    "EXECUTION_TIMEOUT": "99999999999999999999",
    "EXECUTION_GRACE_PERIOD": "-1",
    "EXECUTION_PROJECT_CONCURRENCY": "none",
    "WORKER_CONCURRENCY": "-4",
    "WORKER_LEASE": "x",
    "WORKER_HEARTBEAT": "20",
    "EXECUTION_OUTPUT_LIMIT": "16 MB",
    "STREAM_LIMIT": "0",
    "EXECUTION_MEMORY": "lots",
    "EXECUTION_CPUS": "0",
    "EXECUTION_PIDS": "1",
    "EXECUTION_USER": "0:0",
    "EXECUTION_READ_ONLY": "so-so",
    "LOG_FORMAT": "xml",
    "THROTTLE_CHANGES": "0/minute",
    "THROTTLE_LOGINS": "5 an hour",
}


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """What `manage.py check` says when everything is wrong at once."""
    installation = Installation(tmp_path_factory.mktemp("data"))
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=settings.BASE_DIR,
        env=installation.environment | WRONG,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    return done.stderr


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_an_error_with_an_id(faults, name):
    assert f"(executions.{IDS[name]}) {name}: " in faults


def test_wrong_values_are_no_crash_and_tell_no_secret(faults):
    assert "Traceback" not in faults
    assert "secret@" not in faults


@pytest.mark.parametrize("command", ["run_server", "run_worker", "run", "migrate"])
def test_nothing_starts_with_a_wrong_value(tmp_path, command):
    process = Installation(tmp_path).start(
        sys.executable, "manage.py", command, EXECUTION_TIMEOUT="soon"
    )

    assert process.wait(timeout=30) == 1
    assert "(executions.E014)" in (tmp_path / "printed").read_text()


@pytest.mark.parametrize("command", ["", "{project_id} --now", "'{context}'"])
def test_a_caller_can_not_choose_the_program(tmp_path, command):
    installation = Installation(tmp_path)
    check = [sys.executable, "manage.py", "check"]
    process = installation.start(*check, EXECUTION_COMMAND=command)

    assert process.wait(timeout=30) == (1 if command else 0)  # empty: the default holds


@pytest.mark.parametrize(
    "url",
    [
        "postgres://u:secret@localhost",
        "postgres://u:secret@localhost:port/x",
        "postgres://u:secret@localhost/x?no_such_option=1",
        "mysql://u:secret@localhost/x",
        "sqlite://:memory:",
        "sqlite:///relative",
        "sqlite:////no/such/folder/x",
        "sqlite",
    ],
)
def test_a_database_that_can_not_be_used_is_named(tmp_path, url):
    process = Installation(tmp_path).start(sys.executable, "manage.py", "check", DATABASE_URL=url)

    assert process.wait(timeout=30) == 1
    printed = (tmp_path / "printed").read_text()
    assert "(executions.E006) DATABASE_URL: " in printed
    assert "secret" not in printed.split("E006")[1]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_a_broken_secret_key_is_named(tmp_path, content):
    (tmp_path / "secret_key").write_bytes(content)
    process = Installation(tmp_path).start(sys.executable, "manage.py", "check")

    assert process.wait(timeout=30) == 1
    assert "(executions.E005) SECRET_KEY: " in (tmp_path / "printed").read_text()


def test_a_port_that_is_taken_is_named(installation):
    installation.start_server()
    second = installation.start(sys.executable, "manage.py", "run_server")

    assert second.wait(timeout=30) == 1
    assert f"Can't listen on 127.0.0.1:{installation.port}" in installation.printed


def test_the_secret_key_is_made_once_for_its_owner_only(tmp_path):
    installation = Installation(tmp_path)
    for _ in range(2):
        installation.manage("check")
        path = tmp_path / "secret_key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key = path.read_text()
        assert len(key) >= 50
    installation.manage("check")
    assert path.read_text() == key


def test_settings_are_secure_when_nothing_is_set(tmp_path):
    installation = Installation(tmp_path)
    del installation.environment["OPEN_ACCESS"]

    said = installation.manage(
        "shell",
        "-v0",
        "-c",
        "from django.conf import settings as s; print(s.OPEN_ACCESS, s.DEBUG, s.ALLOWED_HOSTS)",
    )

    assert said.strip() == "False False ['localhost', '127.0.0.1', '[::1]']"
