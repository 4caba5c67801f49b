"""`manage.py prune_executions`: remove what ended long ago, with its output."""

import datetime
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone
from tqdm import tqdm

from executions.management.arguments import age
from executions.models import Execution
from executions.pruning import prune_executions


class Command(BaseCommand):
    help = (
        "Remove executions that ended long ago, and their output, in small batches. "
        "It may be interrupted at any time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than", type=age, required=True, help="since they ended: 30d, 12h, 90m"
        )
        parser.add_argument(
            "--status",
            action="append",
            choices=[str(status) for status in Execution.ENDED],
            help="only of this status; may be repeated",
        )
        parser.add_argument("--dry-run", action="store_true", help="only say how many there are")

    def handle(
        self,
        *,
        older_than: datetime.timedelta,
        status: list[str] | None,
        dry_run: bool,
        **_: Any,
    ) -> None:
        before = timezone.now() - older_than
        count = 0
        # Silent where nobody looks: `disable=None` asks whether this is a terminal.
        with tqdm(unit=" executions", disable=None) as bar:
            batches = prune_executions(
                before=before, status=status or Execution.ENDED, dry_run=dry_run
            )
            for number in batches:
                count += number
                bar.update(number)
        self.stdout.write(f"{'Would remove' if dry_run else 'Removed'} {count} executions.")
