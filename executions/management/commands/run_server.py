"""`manage.py run_server`: become the web server."""

import os
import socket
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

# What makes granian's own few lines JSON as well.
JSON_LOGS = settings.BASE_DIR / "config" / "granian_logging.json"

DEFAULTS = {
    "GRANIAN_WEBSOCKETS": "false",
    # Seconds that open answers, such as streams, get to end when the server stops.
    "GRANIAN_WORKERS_KILL_TIMEOUT": "3",
}


class Command(BaseCommand):
    help = (
        "Check the settings, then become the web server (granian) on PORT. "
        "GRANIAN_… variables reach it, see `granian --help`."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--host", default="127.0.0.1", help="address to listen on (%(default)s)"
        )

    def handle(self, *, host: str, **_: Any) -> None:
        self._check_port_is_free(host)
        granian = Path(sys.executable).with_name("granian")
        options = ["--interface", "rsgi", "--host", host, "--port", str(settings.PORT)]
        if settings.LOG_FORMAT == "json":
            os.environ.setdefault("GRANIAN_LOG_CONFIG", str(JSON_LOGS))
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        os.execv(granian, [str(granian), *options, "config.rsgi:app"])  # noqa: S606 — no shell is what we want

    def _check_port_is_free(self, host: str) -> None:
        """granian would share the port with whoever else shares it, a second copy of ours too."""
        try:
            socket.create_server((host, settings.PORT)).close()
        except OSError as error:
            raise CommandError(
                f"Can't listen on {host}:{settings.PORT}: {error.strerror}."
            ) from error
