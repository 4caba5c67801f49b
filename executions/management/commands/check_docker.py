"""`manage.py check_docker`: whether executions can be run in containers as it is configured."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from executions.runners.docker import find_fault


class Command(BaseCommand):
    help = "Say in one line what is wrong with the Docker Engine or EXECUTION_IMAGE, if anything."

    def handle(self, **_: Any) -> None:
        if not settings.EXECUTION_IMAGE:
            raise CommandError("EXECUTION_IMAGE names no image.")
        if fault := find_fault(settings.EXECUTION_IMAGE):
            raise CommandError(fault)
        self.stdout.write(f"Containers of {settings.EXECUTION_IMAGE} can be started.")
