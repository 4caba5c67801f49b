"""`manage.py run_worker`: claim executions and run them until SIGTERM or Ctrl-C."""

import os
import resource
import signal
import socket
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from executions.checks import OURS
from executions.launching import create_runner, find_runner_fault
from executions.wakeup import create_bell
from executions.worker import Worker

DESCRIPTORS = 16 * 1024


class Command(BaseCommand):
    help = (
        "Claim executions and run them. SIGTERM or Ctrl-C: claim no more, leave containers to "
        "other workers, and let processes end within the grace period; a second one does not wait."
    )

    requires_system_checks = (OURS,)  # all of them would load the whole API

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--name",
            default=f"{socket.gethostname()}-{os.getpid()}",
            help="what executions show as their worker (default: host and process id)",
        )

    def handle(self, *, name: str, **_: Any) -> None:
        if fault := find_runner_fault():
            raise CommandError(fault)
        # A few descriptors for each execution, and the usual soft limit is 1024.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, DESCRIPTORS)), hard))
        with create_bell() as bell:
            worker = Worker(create_runner(), bell, name=name)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: worker.stop())
            worker.run()
