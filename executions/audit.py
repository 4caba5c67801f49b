"""What is logged of who did what, from where: one line for each, whether it succeeds or not.

Never what could be secret: no token, no password, no context, no output.
"""

import contextlib
import json
import logging
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.db import DatabaseError
from django.dispatch import receiver
from django.http import HttpRequest

logger = logging.getLogger(__name__)


_encode = json.JSONEncoder(default=str).encode


def record(event: str, request: Any = None, *, user: Any = None, **details: Any) -> None:
    """Log an event of a request of Django or DRF, or without one of the command line."""
    name = None
    with contextlib.suppress(DatabaseError):  # which may be why it failed
        user = user or getattr(request, "user", None)
        name = user.get_username() if user else None
    facts = {
        "event": event,
        "user": name or None,
        "address": address_of(request) if request else None,
        **details,
    }
    known = {name: value for name, value in facts.items() if value is not None}
    shown = " ".join([f"{name}={_encode(value)}" for name, value in known.items()])
    logger.info("%s", shown, extra=known)


def address_of(request: HttpRequest) -> str:
    """The caller's, as the proxy in front says it where one is configured."""
    header = settings.PROXY_ADDRESS_HEADER
    forwarded = request.headers.get(header, "") if header else ""
    # Earlier ones are what the caller said; the last is what the proxy itself saw.
    return forwarded.rpartition(",")[2].strip() or request.META.get("REMOTE_ADDR", "")


@receiver(user_logged_in)
def record_login(request: HttpRequest, user: User, **_: Any) -> None:
    record("login", request, user=user, outcome="succeeded")


@receiver(user_logged_out)
def record_logout(request: HttpRequest, user: User | None, **_: Any) -> None:
    record("logout", request, user=user)


@receiver(user_login_failed)
def record_failed_login(
    credentials: dict[str, Any], request: HttpRequest | None = None, **_: Any
) -> None:
    # Only a name that there is: people type their password into the wrong field.
    user = User.objects.filter(username=credentials.get("username")).first()
    record("login", request, user=user, outcome="failed")
