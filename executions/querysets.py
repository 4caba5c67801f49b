"""How executions are asked for: by what they are, and page by page, each by an index."""

import datetime
from collections.abc import Collection
from itertools import product
from typing import TYPE_CHECKING, Any, Self

from django.db import connection, models
from django.db.models import Func
from django.db.models.functions import Now

from executions.ids import bounds_at

if TYPE_CHECKING:
    from executions.models import Execution  # noqa: F401 — whose rows these are

# Queries in one union at most: SQLite takes 500.
MAX_UNION = 400


class Unindexed(Func):
    """A column that SQLite is not to search by. PostgreSQL, which has statistics, may."""

    arity = 1

    def as_sqlite(self, compiler: Any, connection: Any, **options: Any) -> Any:
        return self.as_sql(compiler, connection, template="+%(expressions)s", **options)

    def as_postgresql(self, compiler: Any, connection: Any, **options: Any) -> Any:
        return compiler.compile(self.source_expressions[0])


class ExecutionQuerySet(models.QuerySet["Execution"]):
    def pending(self) -> Self:
        return self.filter(status=self.model.Status.PENDING)

    def running(self) -> Self:
        return self.filter(status=self.model.Status.RUNNING)

    def held_under(self, lease_token: object) -> Self:
        """The execution whose claim this token stands for, while that claim holds."""
        return self.running().filter(lease_token=lease_token)

    def lease_expired(self) -> Self:
        # By the database's clock, since many machines share the leases.
        return self.running().filter(lease_expires_at__lte=Now())

    def cancel_requested(self) -> Self:
        return self.filter(cancel_requested_at__isnull=False)

    def accepted_after(self, moment: datetime.datetime) -> Self:
        # The bound on the id lets the database skip what is older without reading it.
        return self.filter(id__gte=bounds_at(moment)[0], started_at__gt=moment)

    def accepted_before(self, moment: datetime.datetime) -> Self:
        return self.filter(id__lte=bounds_at(moment)[1], started_at__lt=moment)

    def of_bead(self, bead_id: str, **fields: Collection[str] | None) -> Self:
        """Those of a bead whose fields each have one of these values; None: whatever they have.

        A bead has few executions. They are read by its index, and only then looked at: of two
        indexes SQLite could take the one of a status or project, which has many.
        """
        found = self.filter(bead_id=bead_id)
        for name, values in fields.items():
            if values is not None:
                found = found.alias(**{f"its_{name}": Unindexed(name)})
                found = found.filter(**{f"its_{name}__in": list(values)})
        return found

    def page(self, order: str, limit: int | None, **fields: Collection[str] | None) -> Self:
        """The first of those whose fields each have one of these values; None: whatever they have.

        A union of one query for each combination, since each alone has an index that is in
        order: the database merges them and stops at the limit, where it would sort all of an IN.
        """
        wanted = {
            name: sorted(set(values)) for name, values in fields.items() if values is not None
        }
        combinations = [dict(zip(wanted, each, strict=True)) for each in product(*wanted.values())]
        if not combinations:
            return self.none()
        if len(combinations) > MAX_UNION:
            found = self.filter(**{f"{name}__in": values for name, values in wanted.items()})
            return found.order_by(order)[:limit]
        queries = [self.filter(**combination) for combination in combinations]
        if len(queries) == 1:
            return queries[0].order_by(order)[:limit]
        if connection.features.supports_slicing_ordering_in_compound:
            # PostgreSQL does not stop by itself; SQLite does, and has no limit there.
            queries = [each.order_by(order)[:limit] for each in queries]
        return queries[0].union(*queries[1:], all=True).order_by(order)[:limit]

    def newest_first(self) -> Self:
        return self.order_by("-id")
