"""Tokens for programs: made, found again by their digest, and never kept.

A token is 256 random bits, so one round of SHA-256 is enough to hide it: there
is nothing to guess. django-rest-knox was weighed: it keeps the first 15
characters readable, reads every token of the user at each request and deletes
expired ones meanwhile, and has neither names nor a last use.
"""

import datetime
import hashlib
import secrets

from django.contrib.auth.models import User
from django.db.models import Q
from django.utils import timezone

from executions.models import ApiToken

# Leads those who find one, and the programs that search for them, to where it belongs.
PREFIX = "executions_"

# How long a token holds if nobody says.
LIFETIME = datetime.timedelta(days=90)

# The last use is kept this exactly, so that reading does not become writing.
LAST_USE_ACCURACY = datetime.timedelta(minutes=1)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def give_secret(token: ApiToken) -> str:
    """What the caller has to send; the token itself, still to be saved, keeps only its digest."""
    secret = PREFIX + secrets.token_urlsafe(32)
    token.digest = digest(secret)
    return secret


def create_token(
    *, user: User, name: str, expires_at: datetime.datetime | None
) -> tuple[ApiToken, str]:
    """A new token, and what the caller has to send. `expires_at` None: it never expires."""
    token = ApiToken(user=user, name=name, expires_at=expires_at)
    secret = give_secret(token)
    token.save()
    return token, secret


def note_use(token_id: int) -> None:
    """Keep when it was used last, unless that was a moment ago."""
    now = timezone.now()
    used_before = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USE_ACCURACY)
    ApiToken.objects.filter(used_before, pk=token_id).update(last_used_at=now)
