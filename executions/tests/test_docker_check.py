"""What is wrong with containers is said in one line before anything starts."""

import os
import subprocess
import sys

import pytest
from django.conf import settings

from executions.tests.engine import IMAGE


def check(installation, command="check_docker", **environment):
    """Exit code and what was printed."""
    done = subprocess.run(
        [sys.executable, "manage.py", command],
        cwd=settings.BASE_DIR,
        env=installation.environment | {"EXECUTION_RUNNER": "docker"} | environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["check_docker", "run_worker"])
def test_no_engine(installation, tmp_path, command):
    host = f"unix://{tmp_path}/nothing.sock"

    code, said = check(installation, command, DOCKER_HOST=host, EXECUTION_IMAGE=IMAGE)

    assert code == 1
    assert f"The Docker Engine at {host} can't be used: No such file or directory." in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "nonsense"])
def test_an_engine_that_can_not_be_reached(installation, host):
    code, said = check(installation, DOCKER_HOST=host, EXECUTION_IMAGE=IMAGE)

    assert (code, said.count("\n")) == (1, 1)
    assert f"The Docker Engine at {host} can't be used: " in said


def test_no_image_is_named(installation):
    code, said = check(installation)

    assert code == 1
    assert "(executions.E023) EXECUTION_IMAGE: Containers need the name of an image." in said


def test_the_image_is_not_there(installation, engine):
    code, said = check(installation, DOCKER_HOST=engine.host, EXECUTION_IMAGE="nowhere:1")

    assert code == 1
    assert said.strip() == (
        "CommandError: The image nowhere:1 is not on the Docker Engine at "
        f"{engine.host}: pull or build it there."
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_no_permission_on_the_socket(engine):
    ask = "from executions.runners.docker import find_fault as f; import os; os.setgroups([]); "
    ask += f"os.setuid(65534); print(f({IMAGE!r}))"
    os.chmod(engine.folder, 0o755)  # as the folder of the usual socket is

    said = subprocess.run(
        [sys.executable, "-c", ask],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DOCKER_HOST": engine.host},
        capture_output=True,
        text=True,
    ).stdout

    assert "Permission denied" in said
    assert "group docker" in said


def test_all_is_well(installation, engine):
    code, said = check(installation, DOCKER_HOST=engine.host, EXECUTION_IMAGE=IMAGE)

    assert (code, said) == (0, f"Containers of {IMAGE} can be started.\n")
