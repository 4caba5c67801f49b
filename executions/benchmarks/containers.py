"""Measures what a container costs through the service, beside `docker run` of the same.

It needs the Engine of DOCKER_HOST and the image EXECUTION_IMAGE; without one it
starts an Engine of its own, which takes root.
"""

import os
import shlex
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from executions.benchmarks.report import say  # noqa: E402
from executions.runners.docker import SHELL  # noqa: E402
from executions.tests.engine import IMAGE, Engine, find_lack, make_image  # noqa: E402
from executions.tests.installation import Installation  # noqa: E402

ROUNDS = 7
CONTAINERS = 10  # in a round, one after the other
LOOK_INTERVAL = 0.1  # seconds
COMMAND = "echo done"

# As the runner has it with the settings' defaults; see `runners/docker.py`.
OPTIONS = shlex.split("""
    --init --rm --network none --memory 64m --memory-swap 64m --cpus 1 --pids-limit 1000
    --cap-drop ALL --security-opt no-new-privileges --user 1000:1000 --workdir /workspace
    --tmpfs /tmp:rw,exec,nosuid,nodev --tmpfs /workspace:rw,exec,nosuid,nodev
    --log-driver local --log-opt max-size=1000g --log-opt max-file=1 --log-opt compress=false
""")


def start_engine(stack: ExitStack) -> tuple[str, str] | None:
    """The address of an Engine and an image on it; None if there can't be one."""
    if image := os.environ.get("EXECUTION_IMAGE"):
        return os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"), image
    if lack := find_lack():
        print(f"Containers are left out: no EXECUTION_IMAGE is set, and {lack}.")
        return None
    engine = Engine(Path(stack.enter_context(tempfile.TemporaryDirectory())))
    stack.callback(engine.close)
    make_image(engine)
    return engine.host, IMAGE


def time_docker_run(host: str, image: str) -> float:
    entry, *arguments = [*SHELL, *COMMAND.split()]
    command = ["docker", "--host", host, "run", *OPTIONS, "--entrypoint", entry, image, *arguments]
    began = time.monotonic()
    for _ in range(CONTAINERS):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (time.monotonic() - began) / CONTAINERS


def time_service(service: Installation) -> float:
    """From the first POST until the last has ended; looking on costs time too, so seldom."""
    began = time.monotonic()
    created = [service.post() for _ in range(CONTAINERS)]  # of one project: one after the other
    while not service.ended(created[-1]):
        time.sleep(LOOK_INTERVAL)
    seconds = (time.monotonic() - began) / CONTAINERS
    for each in map(service.get, created):
        assert (each["status"], each["output"]) == ("completed", "done\n"), each
    return seconds


def main() -> None:
    with ExitStack() as stack:
        if (found := start_engine(stack)) is None:
            return
        host, image = found
        data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = stack.enter_context(Installation(data_dir))
        service.manage("migrate", "--verbosity", "0")
        service.environment |= {
            "DOCKER_HOST": host,
            "EXECUTION_RUNNER": "docker",
            "EXECUTION_IMAGE": image,
            "EXECUTION_COMMAND": COMMAND,
            "EXECUTION_MEMORY": "64m",
            "EXECUTION_CPUS": "1",
        }
        service.start_server()
        service.start_worker()
        time_service(service)  # the first ones are slower, on both sides
        ours, peers = [], []
        for _ in range(ROUNDS):
            peers.append(time_docker_run(host, image))
            ours.append(time_service(service))
    ratios = [our / peer for our, peer in zip(ours, peers, strict=True)]
    figures = f"{statistics.median(ours):.3f} s and {statistics.median(peers):.3f} s"
    say("a container: wall time beside that of `docker run --rm`", figures)
    say("  as a ratio", f"{statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
