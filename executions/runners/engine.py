"""The few verbs that we need of a Docker Engine, on the one that DOCKER_HOST names.

Podman's socket speaks the same API. Every verb takes a container's name, waits
for the Engine as long as it takes, and raises one of three errors.
"""

import contextlib
import datetime
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException, NotFound

# Seconds in which the Engine has to answer what it can answer at once.
ANSWER_TIMEOUT = 60

# Seconds after which the end of a container is asked for anew: connections may die in silence.
WAIT_TIMEOUT = 60

# Connections that are kept: an execution has two open, one to its output and one to its end.
CONNECTIONS = 256

# Precedes each piece of output: which stream it is of, and its length. One stream is not
# the container's, but the Engine's own.
FRAME_HEADER = struct.Struct(">BxxxL")
SYSTEM_ERROR = 3

READ_SIZE = 256 * 1024


class EngineAway(Exception):
    """The Engine can't be reached or is going down; the message says how it failed."""


class Refused(Exception):
    """The Engine will not do it; the message is a sentence made of its words."""


class Missing(Refused):
    """There is no such container, or no such image."""


class Conflict(Refused):
    """Not in this state: the name is taken, or the container runs, or does not."""


@dataclass(frozen=True)
class State:
    """What `docker inspect` says of a container."""

    status: str
    exit_code: int
    out_of_memory: bool
    began_at: datetime.datetime  # in the year 1 if it has not begun
    ended_at: datetime.datetime  # in the year 1 if it has not ended
    labels: Mapping[str, str]

    @property
    def has_begun(self) -> bool:
        return self.began_at.year > 1

    @property
    def has_ended(self) -> bool:
        return self.status in ("exited", "dead")


class Engine:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        """Raises EngineAway if there is none, in the words of the library."""
        with _errors():
            client = docker.from_env(timeout=ANSWER_TIMEOUT, max_pool_size=CONNECTIONS)
        self._api = client.api

    def describe(self) -> tuple[str, int]:
        """What tells this Engine from others, also after a restart; and how many cpus it has."""
        with _errors():
            info = self._api.info()
            version = self._api.version()
        # Podman makes up another id at each call.
        podman = any("Podman" in each["Name"] for each in version.get("Components", ()))
        return (info["Name"] if podman else info["ID"]), info["NCPU"]

    def check_image(self, image: str) -> None:
        """Raises Missing if it is not there."""
        with _errors():
            self._api.inspect_image(image)

    def create(self, name: str, specification: Mapping[str, Any]) -> None:
        """`specification` is the body of the API's call."""
        with _errors():
            self._api.create_container_from_config(dict(specification), name)

    def start(self, name: str) -> None:
        with _errors():
            self._api.start(name)

    def wait(self, name: str) -> None:
        """Return when the container does not run. Raises EngineAway after WAIT_TIMEOUT."""
        with _errors():
            self._api.wait(name, timeout=WAIT_TIMEOUT)

    def inspect(self, name: str) -> State:
        with _errors():
            found = self._api.inspect_container(name)
        state = found["State"]
        return State(
            status=state["Status"],
            exit_code=state["ExitCode"],
            out_of_memory=state["OOMKilled"],
            began_at=datetime.datetime.fromisoformat(state["StartedAt"]),
            ended_at=datetime.datetime.fromisoformat(state["FinishedAt"]),
            labels=found["Config"]["Labels"] or {},
        )

    def signal(self, name: str, signal: str) -> None:
        with _errors():
            self._api.kill(name, signal)

    def remove(self, name: str, *, force: bool) -> None:
        """With what belongs to it. Raises Conflict if it runs, unless by `force`."""
        with _errors():
            self._api.remove_container(name, v=True, force=force)

    def find(self, label: str, value: str) -> list[tuple[str, Mapping[str, str]]]:
        """All containers with that label, also ended ones: their names and labels."""
        with _errors():
            found = self._api.containers(all=True, filters={"label": f"{label}={value}"})
        return [(each["Names"][0].lstrip("/"), each["Labels"]) for each in found]

    def read_output(self, name: str, *, follow: bool) -> Iterator[bytes]:
        """What a container has written, from the first byte on; with `follow` what comes, too.

        That a followed output ends is no sign that it is complete. A last line of 16 KiB or
        more comes without the newline at its end: see `join_lines`.
        """
        # Not by the library's `logs`: three calls for each line made it three times as slow, and
        # it takes a broken connection for an end.
        with _errors():
            answer = self._api.get(
                f"{self._api.base_url}/v{self._api.api_version}/containers/{name}/logs",
                params={"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(follow)},
                stream=True,
                timeout=(ANSWER_TIMEOUT, None if follow else ANSWER_TIMEOUT),
            )
            with answer:
                if answer.status_code == requests.codes.not_found:
                    raise Missing("The container is gone.")
                if not answer.ok and answer.status_code != requests.codes.service_unavailable:
                    raise Refused(f"The Docker Engine said: {answer.text.strip()}")
                answer.raise_for_status()
                yield from join_lines(unpack_frames(answer.raw.stream(READ_SIZE)))


def unpack_frames(received: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces within what the Engine sends, however that was cut on its way.

    Raises EngineAway if the Engine says that it can't go on.
    """
    rest = b""
    for data in received:
        rest += data
        start = 0
        while len(rest) - start >= FRAME_HEADER.size:
            stream, length = FRAME_HEADER.unpack_from(rest, start)
            end = start + FRAME_HEADER.size + length
            if end > len(rest):
                break
            if stream == SYSTEM_ERROR:
                raise EngineAway(rest[start + FRAME_HEADER.size : end].decode(errors="replace"))
            yield rest[start + FRAME_HEADER.size : end]
            start = end
        rest = rest[start:]


def join_lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What was written, from the pieces of a log with timestamps.

    The Engine cuts lines of 16 KiB and more into pieces of one timestamp, and
    drops the newline at the end of such a line. Another timestamp tells that
    there was one.
    """
    last, is_open = b"", False
    for piece in pieces:
        timestamp, _, data = piece.partition(b" ")
        if is_open and timestamp != last:
            yield b"\n"
        # All of a line was in its pieces before: the last, with the newline, is left empty.
        yield data or b"\n"
        is_open = not (data or b"\n").endswith(b"\n")
        last = timestamp


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except NotFound as error:
        raise Missing(_sentence(error)) from error
    except APIError as error:
        if error.status_code == requests.codes.service_unavailable:
            raise EngineAway(_sentence(error)) from error
        conflict = error.status_code == requests.codes.conflict
        raise (Conflict if conflict else Refused)(_sentence(error)) from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, DockerException, OSError) as e:
        raise EngineAway(_innermost(e)) from e


def _sentence(error: APIError) -> str:
    """The Engine's words, without the names of the layers that they came through."""
    words = str(error.explanation or error).strip()
    words = re.sub(r"^.*unable to start container process: ", "", words, flags=re.DOTALL)
    words = words.removesuffix(": unknown").rstrip(".")
    return f"The Docker Engine said: {words}."


def _innermost(error: BaseException) -> str:
    """What the operating system said, out of all that libraries have wrapped around it."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(getattr(error, "strerror", None) or error)
