"""`manage.py create_token`: a token for a program that calls the API."""

import datetime
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from executions.management.arguments import age
from executions.tokens import LIFETIME, create_token


def lifetime(text: str) -> datetime.timedelta | None:
    """`90d` and the like, or `never`."""
    return None if text == "never" else age(text)


class Command(BaseCommand):
    help = "Make a token for the API and print it: once, since only its digest is kept."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("user", help="whose rights it has")
        parser.add_argument(
            "--name", default="create_token", help="what it is used for (default: %(default)s)"
        )
        parser.add_argument(
            "--expires",
            type=lifetime,
            default=LIFETIME,
            help=f"when: 90d, 12h, 30m or never (default: {LIFETIME.days}d)",
        )

    def handle(self, *, user: str, name: str, expires: datetime.timedelta | None, **_: Any) -> None:
        owner = User.objects.filter(username=user).first()
        if owner is None:
            raise CommandError(f"There is no user {user!r}.")
        expires_at = None if expires is None else timezone.now() + expires
        token, secret = create_token(user=owner, name=name, expires_at=expires_at)
        until = (
            "never expires" if expires_at is None else f"expires at {expires_at:%Y-%m-%d %H:%M} UTC"
        )
        self.stderr.write(f"Token {token.name!r} of {owner.username}; it {until}.")
        self.stdout.write(secret)
