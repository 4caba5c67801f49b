"""What fast answers are made of, and whom they are for."""

from dataclasses import dataclass

from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpRequest

from executions.access import EVERYTHING, Access, TokenHolder, access_of
from executions.authentication import find_holder
from executions.fast.reader import Reader

Headers = list[tuple[str, str]]

# Beside what every answer carries.
HEADERS_OF_ALL: Headers = [("allow", "GET, POST, HEAD, OPTIONS")]
HEADERS_OF_ONE: Headers = [("allow", "GET, HEAD, OPTIONS")]

# The rest of a detail until something was written.
NO_OUTPUT = '"output":null,"output_truncated":false'


class Unusual(Exception):
    """Left to the ViewSet."""


@dataclass(frozen=True)
class Answer:
    content: str
    headers: Headers  # their names in lower case
    status: int = 200


def find_caller(request: HttpRequest, reader: Reader) -> tuple[Access, User | None]:
    """What the caller may do, and who that is; None where access is open."""
    header = request.META.get("HTTP_AUTHORIZATION")
    if header is None:
        if settings.OPEN_ACCESS:
            return EVERYTHING, None
        raise Unusual

    def find() -> TokenHolder:
        holder = find_holder(header, run=reader.run)
        if holder is None:
            raise Unusual
        return holder

    holder = reader.remember(("token", header), find, size=lambda _: 0)
    if holder.has_expired or not holder.use_is_noted:
        raise Unusual
    return access_of(holder.user), holder.user
