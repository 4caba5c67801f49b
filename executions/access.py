"""The one place that decides who may do what.

The API, its streams, the browsable API and the admin all ask an `Access`. It is
read with one query, which is plain SQL because it is part of every request: built
by the ORM each time it would take as long as the rest of a read.
"""

import datetime
import json
import math
import time
from dataclasses import dataclass, replace
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.db import DEFAULT_DB_ALIAS

from executions.models import Execution, ExecutionQuerySet
from executions.prepared import Run, run
from executions.tokens import LAST_USE_ACCURACY, digest

# Django's own permissions, as the roles have them (see the migration `roles`).
VIEW = "view_execution"
START = "add_execution"  # and cancel and retry what one started oneself
STEER = "change_execution"  # cancel and retry what anyone started

# What each call needs one of. What is not here is refused, also to operators.
CALLS = {
    "list": {VIEW},
    "retrieve": {VIEW},
    "output": {VIEW},
    "watch": {VIEW},
    "metadata": {VIEW},
    "create": {START},
    "cancel": {START, STEER},
    "retry": {START},
    None: {VIEW},  # the root, and methods that there are not
}


@dataclass(frozen=True)
class Access:
    """What one caller may do."""

    user_id: int | None = None
    permissions: frozenset[str] = frozenset()
    projects: frozenset[str] | None = frozenset()  # None: all of them

    def may_call(self, action: str | None) -> bool:
        """Whether the caller may make this call of the API at all, on whatever it is made."""
        return not self.permissions.isdisjoint(CALLS.get(action, ()))

    @property
    def may_view_any(self) -> bool:
        return VIEW in self.permissions

    @property
    def may_steer_any(self) -> bool:
        """Whether the caller may cancel and retry what others started: an operator."""
        return STEER in self.permissions

    @property
    def may_retry_any(self) -> bool:
        return self.may_steer_any and START in self.permissions

    def visible(self, executions: ExecutionQuerySet) -> ExecutionQuerySet:
        """Those that there are, as far as the caller can know."""
        if not self.may_view_any:
            return executions.none()
        return (
            executions if self.projects is None else executions.filter(project_id__in=self.projects)
        )

    def may_view(self, execution: Execution) -> bool:
        return self.may_view_in(execution.project_id)

    def may_view_in(self, project_id: str) -> bool:
        return self.may_view_any and self._reaches(project_id)

    def may_start_in(self, project_id: str) -> bool:
        return START in self.permissions and self._reaches(project_id)

    def may_cancel(self, execution: Execution) -> bool:
        return self._reaches(execution.project_id) and self._may_steer(execution)

    def may_retry(self, execution: Execution) -> bool:
        return self.may_start_in(execution.project_id) and self._may_steer(execution)

    def _reaches(self, project_id: str) -> bool:
        return self.projects is None or project_id in self.projects

    def _may_steer(self, execution: Execution) -> bool:
        is_own = self.user_id is not None and execution.requested_by_id == self.user_id
        return self.may_steer_any or (is_own and START in self.permissions)


NOTHING = Access()
EVERYTHING = Access(permissions=frozenset({VIEW, START, STEER}), projects=None)


@dataclass(frozen=True)
class TokenHolder:
    """Who sent a token that holds."""

    token_id: int
    user: User  # who has an `Access` already
    expires_at: float  # seconds since 1970; infinite if it never does
    last_used_at: float  # the same; 0 if it never was

    @property
    def has_expired(self) -> bool:
        return time.time() >= self.expires_at

    @property
    def use_is_noted(self) -> bool:
        return time.time() < self.last_used_at + LAST_USE_ACCURACY.total_seconds()


# A row for each permission and limit; some of them twice where groups overlap.
READ = """
    SELECT u.id, u.is_superuser, permission.codename, project_limit.projects{more_columns}
    FROM auth_user u
    {more_tables}
    LEFT JOIN auth_user_groups member ON member.user_id = u.id
    LEFT JOIN executions_projectlimit project_limit
        ON project_limit.user_id = u.id OR project_limit.group_id = member.group_id
    LEFT JOIN auth_group_permissions of_group ON of_group.group_id = member.group_id
    LEFT JOIN auth_user_user_permissions of_user ON of_user.user_id = u.id
    LEFT JOIN auth_permission permission
        ON permission.id IN (of_group.permission_id, of_user.permission_id)
    WHERE u.is_active AND {condition}
"""
READ_BY_USER = READ.format(more_columns="", more_tables="", condition="u.id = %s")
READ_BY_TOKEN = READ.format(
    more_columns=", u.username, token.id, token.expires_at, token.last_used_at",
    more_tables="JOIN executions_apitoken token ON token.user_id = u.id",
    condition="token.digest = %s",
)


def access_of(user: User | AnonymousUser) -> Access:
    """What a user may do; asked of the database once for each user object."""
    known: Access | None = getattr(user, "executions_access", None)
    if known is None:
        known = _combine(run(READ_BY_USER, [user.pk]))
        user.executions_access = known  # type: ignore[union-attr]
    return known


def find_token_holder(secret: str, *, run: Run = run) -> TokenHolder | None:
    """Who has this token; None if it is unknown, revoked or expired, or its user inactive."""
    rows = run(READ_BY_TOKEN, [digest(secret)])
    if not rows:
        return None
    user_id, is_superuser, _, _, username, token_id, expires_at, last_used_at = rows[0]
    # In the model's own order; whatever else is asked of the user is read when it is asked.
    user = User.from_db(
        DEFAULT_DB_ALIAS,
        ["id", "is_superuser", "username", "is_active"],
        [user_id, bool(is_superuser), username, True],
    )
    user.executions_access = _combine(rows)  # type: ignore[attr-defined]
    holder = TokenHolder(
        token_id, user, _seconds(expires_at, never=math.inf), _seconds(last_used_at, never=0)
    )
    return None if holder.has_expired else holder


def _seconds(moment: datetime.datetime | str | None, *, never: float) -> float:
    """A time, which SQLite's driver gives as text, in seconds since 1970."""
    if moment is None:
        return never
    if isinstance(moment, str):
        moment = datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def _combine(rows: list[Any]) -> Access:
    if not rows:
        return NOTHING
    user_id, is_superuser = rows[0][:2]
    if is_superuser:
        return replace(EVERYTHING, user_id=user_id)
    limits = {row[3] for row in rows if row[3] is not None}
    return Access(
        user_id=user_id,
        permissions=frozenset(row[2] for row in rows if row[2] is not None),
        projects=frozenset().union(*map(json.loads, limits)) if limits else None,
    )
