"""A Docker Engine for the tests, and a small image on it."""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import docker
from docker.errors import APIError
from docker.models.containers import Container

from executions.tests.installation import wait_for

IMAGE = "executions-test:latest"

# What the image's busybox is called by.
APPLETS = (
    "cat dd echo env false head id kill ls md5sum mkdir printf pwd rm seq sh sleep touch true yes"
)


class Engine:
    """An Engine of our own in a folder, which can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self.start()

    def start(self) -> None:
        with (self.folder / "printed").open("ab") as printed:
            self.process = subprocess.Popen(
                [
                    "dockerd",
                    *("--host", self.host),
                    *("--data-root", self.folder / "data", "--exec-root", self.folder / "exec"),
                    *("--pidfile", self.folder / "pid"),
                    # It needs no network, and no firewall is to be touched.
                    *("--bridge=none", "--iptables=false", "--ip6tables=false"),
                    # Not infinite: some kernels refuse that.
                    *("--default-ulimit", "nofile=1024:1024"),
                    "--live-restore",  # containers survive its restart
                ],
                stdout=printed,
                stderr=printed,
            )
        wait_for(self.answers, timeout=60)

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "printed").read_text()[-2000:]
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.folder / "docker.sock")) == 0

    @contextlib.contextmanager
    def client(self) -> Iterator[docker.DockerClient]:
        with contextlib.closing(docker.DockerClient(base_url=self.host, timeout=30)) as client:
            yield client

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        (self.folder / "pid").unlink(missing_ok=True)

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def containers(self) -> list[Container]:
        """All that there are, also ended ones."""
        with self.client() as client:
            return client.containers.list(all=True, ignore_removed=True)

    def remove_containers(self) -> None:
        with self.client() as client:
            for container in client.containers.list(all=True, ignore_removed=True):
                with contextlib.suppress(APIError):  # a worker removes it, too
                    container.remove(force=True)

    def tag_image(self, name: str) -> None:
        with self.client() as client:
            client.images.get(IMAGE).tag(name)

    def untag_image(self, name: str) -> None:
        with self.client() as client:
            client.images.remove(name)

    def close(self) -> None:
        self.remove_containers()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        # It leaves its folder mounted where it could not end as it would.
        subprocess.run(["umount", "--lazy", self.folder / "data"], stderr=subprocess.DEVNULL)


def make_image(engine: Engine) -> None:
    """Nothing but busybox: there may be no registry to take an image from."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(shutil.which("busybox") or "busybox", "bin/busybox")
        for applet in APPLETS.split():
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    name, tag = IMAGE.split(":")
    with engine.client() as client:
        client.api.import_image_from_data(archive.getvalue(), repository=name, tag=tag)


def find_lack() -> str | None:
    """What this machine lacks for an Engine of our own; None if nothing."""
    for program in ("dockerd", "runc", "docker-init", "busybox"):
        if shutil.which(program) is None:
            return f"no {program}"
    return None if os.geteuid() == 0 else "an Engine can only be started by root"
