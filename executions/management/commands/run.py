"""`manage.py run`: the whole service in one terminal, for this machine."""

import os
import signal
import sys
from typing import Any

import honcho.manager
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from honcho.environ import parse_procfile


class Command(BaseCommand):
    help = (
        "Migrate, then start what the Procfile names, until Ctrl-C or SIGTERM. OPEN_ACCESS is on "
        "unless the environment says otherwise, since the server listens on 127.0.0.1 only."
    )

    def handle(self, **_: Any) -> None:
        call_command("migrate", verbosity=0)
        if not os.environ.get("OPEN_ACCESS"):
            os.environ["OPEN_ACCESS"] = "on"
        self.stdout.write(self._where_to_look())
        # The worker may take its grace period twice: for ending, and for being stopped.
        honcho.manager.KILL_WAIT = 2 * settings.EXECUTION_GRACE_PERIOD + 5
        manager = honcho.manager.Manager()
        procfile = parse_procfile((settings.BASE_DIR / "Procfile").read_text())
        for name, command in procfile.processes.items():
            manager.add_process(name, command, env=self._environment(), cwd=settings.BASE_DIR)
        # A closed terminal is a Ctrl-C too.
        signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        manager.loop()
        stopped_on_request = manager.returncode in (128 + signal.SIGINT, 128 + signal.SIGTERM)
        sys.exit(0 if stopped_on_request else manager.returncode)

    def _environment(self) -> dict[str, str]:
        # The Procfile's PYTHON is the one that runs this. PATH stays: what runs sees it.
        # Nor would they see the terminal, which is at the other end of a pipe.
        return {
            **os.environ,
            "LOG_FORMAT": settings.LOG_FORMAT,
            "PYTHON": sys.executable,
            "PYTHONUNBUFFERED": "1",
        }

    def _where_to_look(self) -> str:
        address = f"http://127.0.0.1:{settings.PORT}"
        access = (
            "Anyone on this machine may call the API (OPEN_ACCESS=off asks for a login)."
            if os.environ["OPEN_ACCESS"] == "on"
            else f"OPEN_ACCESS={os.environ['OPEN_ACCESS']} from the environment."
        )
        return (
            f"Executions at {address}/executions/, docs at {address}/docs, "
            f"admin at {address}/admin/ (make superuser).\n{access}\nCtrl-C stops everything."
        )
