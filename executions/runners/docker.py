"""The Docker runner: each execution is a container of its own, which outlives its worker."""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

from docker.utils import parse_bytes

from executions.runners.base import Launch
from executions.runners.container import SHELL_NAME, ContainerAttempt
from executions.runners.engine import Engine, EngineAway, Missing, Refused

# By these labels containers are known as ours: whose, of which execution, under which claim.
INSTALLATION = "executions.installation"
EXECUTION = "executions.execution"
CLAIM = "executions.claim"

# Both streams of the command become one pipe, or else their order would be lost: the Engine reads
# them apart. What is started is the shell's arguments, which it passes on as they are.
SHELL = ["/bin/sh", "-c", 'exec "$@" 2>&1', SHELL_NAME]

# Containers that are removed at once.
REMOVERS = 4

# Seconds that a worker which stops waits for them.
CLOSE_TIMEOUT = 10

NAME = re.compile(r"execution-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ContainerOptions:
    """What the operator's configuration says of every container."""

    image: str
    memory: str  # such as 512m; there is no swap beyond it
    cpus: float
    pids: int
    network: str
    user: str
    read_only: bool


class DockerRunner:
    """Creates, follows and removes containers on the Engine that DOCKER_HOST names."""

    def __init__(self, options: ContainerOptions, *, installation: str) -> None:
        """`installation` tells our containers from those of others on the same Engine.

        Raises EngineAway if the Engine can't be reached.
        """
        self._installation = installation
        self._engine = Engine()
        self.engine_id: str | None
        self.engine_id, cpus = self._engine.describe()
        # An Engine refuses more than it has.
        self._options = replace(options, cpus=min(options.cpus, cpus))
        self._hands = ThreadPoolExecutor(REMOVERS)
        self._removals: list[Future[None]] = []
        self._sweep: Future[None] | None = None

    def start(self, launch: Launch) -> ContainerAttempt:
        labels = self._labels(launch.execution_id) | {CLAIM: launch.claim}
        return self._attempt(
            launch.execution_id,
            labels=labels,
            specification=specify(launch, self._options, labels),
            skip=0,
        )

    def adopt(self, execution_id: str, *, skip: int) -> ContainerAttempt:
        labels = self._labels(execution_id)
        return self._attempt(execution_id, labels=labels, specification=None, skip=skip)

    def sweep(self, find_live: Callable[[Sequence[str]], set[str]]) -> None:
        if self._sweep is None or self._sweep.done():
            self._sweep = self._hands.submit(self._remove_leftovers, find_live)

    def close(self) -> None:
        """Wait until what has ended is removed, if the Engine answers; else a sweep removes it."""
        wait(self._removals, timeout=CLOSE_TIMEOUT)
        self._hands.shutdown(wait=False, cancel_futures=True)

    def _labels(self, execution_id: str) -> dict[str, str]:
        return {INSTALLATION: self._installation, EXECUTION: execution_id}

    def _attempt(self, execution_id: str, **options: Any) -> ContainerAttempt:
        return ContainerAttempt(
            self._engine,
            name_container(execution_id),
            remove=self._remove_later,
            **options,
        )

    def _remove_later(self, name: str) -> None:
        self._removals = [each for each in self._removals if not each.done()]
        self._removals.append(self._hands.submit(self._remove, name))

    def _remove(self, name: str) -> None:
        # If this fails, a sweep finds it later.
        with contextlib.suppress(Refused, EngineAway):
            self._engine.remove(name, force=True)

    def _remove_leftovers(self, find_live: Callable[[Sequence[str]], set[str]]) -> None:
        try:
            ours = {
                labels[EXECUTION]: name
                for name, labels in self._engine.find(INSTALLATION, self._installation)
                # A copy that a person has made of one has the labels too, and another name.
                if NAME.fullmatch(name) and name == name_container(labels.get(EXECUTION, ""))
            }
            for execution_id in ours.keys() - find_live(list(ours)):
                logger.warning("Removing %s: no execution owns it.", ours[execution_id])
                self._remove(ours[execution_id])
        except EngineAway as error:
            logger.warning("The Docker Engine can't be reached: %s.", error)
        except Exception:
            logger.exception("The sweep failed.")


def find_fault(image: str) -> str | None:
    """Why no execution could be started in a container of `image`, in one line; None if it can."""
    address = os.environ.get("DOCKER_HOST") or "its usual socket"
    try:
        Engine().check_image(image)
    except Missing:
        return (
            f"The image {image} is not on the Docker Engine at {address}: pull or build it there."
        )
    except (EngineAway, Refused) as error:
        hint = " Its socket is open to the group docker." if "denied" in str(error) else ""
        return f"The Docker Engine at {address} can't be used: {error}.{hint}"
    return None


def name_container(execution_id: str) -> str:
    """A name is taken once, so that none is started twice."""
    return f"execution-{execution_id}"


def specify(launch: Launch, options: ContainerOptions, labels: dict[str, str]) -> dict[str, Any]:
    """The body of the Engine API's call that creates a container, and what it may do."""
    owned = f"uid={options.user.split(':')[0]},mode=1777"
    temporary = {"/tmp": f"rw,exec,nosuid,nodev,{owned}"}  # noqa: S108 - the container's own
    mounts = []
    if launch.workspace is None:
        temporary["/workspace"] = temporary["/tmp"]  # noqa: S108
    else:
        mounts = [{"Type": "bind", "Source": str(launch.workspace), "Target": "/workspace"}]
    memory = parse_bytes(options.memory)
    return {
        "Image": options.image,
        "Entrypoint": SHELL,  # the image's own has no say in what is started
        "Cmd": list(launch.argv),
        "Env": [f"{name}={value}" for name, value in launch.environment.items()],
        "User": options.user,
        "WorkingDir": "/workspace",
        "Labels": labels,
        "HostConfig": {
            "Init": True,
            "Memory": memory,
            "MemorySwap": memory,
            "NanoCpus": round(options.cpus * 1e9),
            "PidsLimit": options.pids,
            "NetworkMode": options.network,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": options.read_only,
            "Tmpfs": temporary,
            "Mounts": mounts,
            # The one driver of the Engine's own that keeps bytes as they are: the usual one
            # replaces what is not UTF-8. Nothing is thrown away before the container is removed.
            "LogConfig": {
                "Type": "local",
                "Config": {"max-size": "1000g", "max-file": "1", "compress": "false"},
            },
        },
    }
