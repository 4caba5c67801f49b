"""Allowances: how often a user may change something, and how often a login may be tried.

Kept in the database, so that they are exact however many processes serve. Reads
are not counted: counting would make each of them a write.
"""

import hashlib
import ipaddress
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import Throttled

from executions import audit
from executions.models import Allowance

Rate = tuple[int, int]  # how many in how many seconds; so many at once, then evenly


@contextmanager
def change_allowance(user: User | AnonymousUser) -> Iterator[None]:
    """Counts as one change of this user what is done inside, in the same transaction.

    Raises Throttled (429). What fails inside is not counted; nor is nobody in particular.
    """
    if not user.is_authenticated:
        yield
        return
    with transaction.atomic():
        take_change(user)
        yield


def take_change(user: User) -> None:
    """Count one change of this user. Raises Throttled (429)."""
    if wait := take(f"change {user.pk}", settings.THROTTLE_CHANGES):
        raise Throttled(wait)


def limit_logins(view: Callable[..., Any]) -> Callable[..., Any]:
    """A login page whose attempts are counted: by name and address together, and by address.

    Not by name alone: then a stranger could lock its owner out.
    """

    @wraps(view)
    def login(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        count, seconds = settings.THROTTLE_LOGINS
        Allowance.objects.filter(full_at__lt=time.time()).delete()  # whole ones: as good as none
        network = _network(audit.address_of(request))
        name_there = f"login {network} {request.POST.get('username', '').lower()}"
        wait = take(f"login {network}", (5 * count, seconds)) or take(name_there, (count, seconds))
        if wait:
            audit.record("login", request, outcome="throttled")
            sentence = f"Too many attempts. Try again in {math.ceil(wait)} seconds."
            return HttpResponse(
                sentence,
                status=429,
                content_type="text/plain",
                headers={"Retry-After": str(math.ceil(wait))},
            )
        response = view(request, *args, **kwargs)
        if request.user.is_authenticated:
            Allowance.objects.filter(pk=_digest(name_there)).delete()
        return response

    return login


# One statement decides, so that of two at once only one gets the last.
TAKE = """
    INSERT INTO executions_allowance AS kept (key, full_at) VALUES (%s, %s)
    ON CONFLICT (key) DO UPDATE
    SET full_at = CASE WHEN kept.full_at > %s THEN kept.full_at ELSE %s END + %s
    WHERE kept.full_at <= %s
"""


def take(key: str, rate: Rate) -> float:
    """Take one from an allowance: 0, or after how many seconds there is one again.

    The generic cell rate algorithm: all that is kept is when the allowance is whole again. By the
    clock of this machine: with several whose clocks differ, the allowance is as inexact as they
    are.
    """
    count, seconds = rate
    step = seconds / count
    pk = _digest(key)
    while True:
        now = time.time()
        latest = now + seconds - step  # whole again by then, it has room for one more
        with connection.cursor() as cursor:
            cursor.execute(TAKE, [pk, now + step, now, now, step, latest])
            if cursor.rowcount == 1:
                return 0
        full_at = Allowance.objects.values_list("full_at", flat=True).filter(pk=pk).first()
        if full_at is not None and full_at > latest:
            return full_at - latest


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _network(address: str) -> str:
    """The address, or of IPv6 what one customer usually has: 2^64 of them."""
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return address
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if version == 6 else address
