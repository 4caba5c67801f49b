"""Who calls: told by a token."""

import re
from typing import TYPE_CHECKING

from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed

from executions import audit
from executions.access import TokenHolder, find_token_holder
from executions.prepared import Run, run
from executions.tokens import note_use

if TYPE_CHECKING:  # DRF's views import this module while they are being imported
    from rest_framework.request import Request

KEYWORD = "Token"


HEADER = re.compile(rf"{KEYWORD} +([\x21-\x7e]{{1,255}})", re.IGNORECASE)


def find_holder(header: str, *, run: Run = run) -> TokenHolder | None:
    """Whose token an `Authorization` header has; None if it has none that holds."""
    match = HEADER.fullmatch(header)
    return find_token_holder(match[1], run=run) if match else None


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Token …`; `request.auth` is its `TokenHolder`.

    Raises AuthenticationFailed (401) for any token that does not hold.
    """

    def authenticate(self, request: "Request") -> tuple[User, TokenHolder] | None:
        header = request.headers.get("Authorization")
        if header is None:
            return None
        holder = find_holder(header)
        if holder is None:
            audit.record("token", request._request, outcome="refused")
            raise AuthenticationFailed("Invalid token.")
        if not holder.use_is_noted:
            note_use(holder.token_id)
        return holder.user, holder

    def authenticate_header(self, request: "Request") -> str:
        return KEYWORD


def authenticate_again(request: "Request") -> User | AnonymousUser:
    """Who calls as of now: the token may be revoked meanwhile, the session ended."""
    if isinstance(request.auth, TokenHolder):
        try:
            found = TokenAuthentication().authenticate(request)
        except AuthenticationFailed:
            found = None
        return found[0] if found else AnonymousUser()
    bare = HttpRequest()
    bare.session = SessionStore(request.session.session_key)
    return get_user(bare)
