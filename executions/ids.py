"""Ids of executions: UUIDs of version 7, whose first 48 bits are the time of their making.

They sort by age, so that "newest first" is the order of the primary key, and a
span of time is a span of ids: no list needs an index on a time.
"""

import datetime
import uuid

from uuid_utils.compat import uuid7

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MILLISECOND = datetime.timedelta(milliseconds=1)


def new_id() -> uuid.UUID:
    """A new id, larger than any that this process made before."""
    return uuid7()


def time_of(identifier: uuid.UUID) -> datetime.datetime:
    """When an id of `new_id` was made, to the millisecond."""
    return EPOCH + MILLISECOND * (identifier.int >> 80)


def bounds_at(moment: datetime.datetime) -> tuple[uuid.UUID, uuid.UUID]:
    """Between which UUIDs, both included, the ids lie that are made in this millisecond.

    A moment before 1970 counts as the first of all.
    """
    first = max((moment - EPOCH) // MILLISECOND, 0) << 80
    return uuid.UUID(int=first), uuid.UUID(int=first | (2**80 - 1))
