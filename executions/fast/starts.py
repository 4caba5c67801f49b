"""New executions. Those that come while others are being committed are committed together."""

import asyncio
import contextvars
import io
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection, transaction
from django.http import HttpRequest
from rest_framework.exceptions import Throttled

from executions import audit, documents, services
from executions.exceptions import RETRY_AFTER, DatabaseUnavailable
from executions.fast.answers import HEADERS_OF_ALL, NO_OUTPUT, Answer, Unusual
from executions.models import Execution
from executions.parsers import StrictJSONParser
from executions.serializers import CONTEXT_BYTES, ID_LENGTH, MAX_TIMEOUT
from executions.throttling import take_change

logger = logging.getLogger(__name__)

PARSER = StrictJSONParser()
FIELDS = {"project_id", "bead_id", "context", "timeout"}

# Bytes of a body at most: a larger one would hold up the event loop while it is parsed.
BODY_SIZE = 64 * 1024

UNAVAILABLE = json.dumps({"detail": DatabaseUnavailable.default_detail})


def read_wish(request: HttpRequest, body: bytes) -> Any:
    """The fields of the new execution. Raises Unusual if the ViewSet may refuse them."""
    if request.content_type != "application/json" or request.META["QUERY_STRING"]:
        raise Unusual
    if len(body) > BODY_SIZE:
        raise Unusual
    if not {"HTTP_ORIGIN", "HTTP_IDEMPOTENCY_KEY"}.isdisjoint(request.META):
        raise Unusual
    fields = PARSER.parse(io.BytesIO(body))
    if not is_surely_valid(fields):
        raise Unusual
    return fields


def is_surely_valid(fields: Any) -> bool:
    """Whether `ExecutionCreateSerializer` takes it and leaves it as it is; False if in doubt."""
    if not isinstance(fields, dict) or not FIELDS.issuperset(fields):
        return False
    for name in ("project_id", "bead_id"):
        value = fields.get(name)
        if not (isinstance(value, str) and 1 <= len(value) <= ID_LENGTH and value.isprintable()):
            return False
    context, timeout = fields.get("context"), fields.get("timeout")
    return (context is None or is_text(context)) and (
        timeout is None or (type(timeout) is int and 1 <= timeout <= MAX_TIMEOUT)
    )


def is_text(context: Any) -> bool:
    try:
        return "\0" not in context and len(context.encode()) <= CONTEXT_BYTES
    except (TypeError, AttributeError, UnicodeEncodeError):  # no string, or half a character
        return False


@dataclass(eq=False)
class Wish:
    """What one caller asks for, and what comes of it."""

    request: HttpRequest
    user: User | None
    fields: dict[str, Any]
    origin: str  # such as http://localhost:8000
    answer: "asyncio.Future[Answer]"
    context: contextvars.Context  # of the request, whose id is logged
    outcome: Execution | Exception = field(default_factory=Unusual)


class Intake:
    """All coroutines of one event loop share one of these."""

    def __init__(self) -> None:
        # One thread, so that one connection: what SQLite holds in memory is of use until another
        # one commits.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="intake")
        self._waiting: list[Wish] = []
        self._work: asyncio.Task[None] | None = None

    async def start_execution(
        self, request: HttpRequest, user: User | None, fields: dict[str, Any], *, origin: str
    ) -> Answer:
        """The execution is kept when this is a 201. Raises Throttled, and Unusual if it failed."""
        loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        wish = Wish(request, user, fields, origin, loop.create_future(), context)
        self._waiting.append(wish)
        if self._work is None or self._work.done():
            self._work = loop.create_task(self._keep_working())
        return await wish.answer

    async def _keep_working(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            wishes, self._waiting = self._waiting, []
            await loop.run_in_executor(self._thread, fulfil, wishes)
            for wish in wishes:
                answer_to(wish)
            await asyncio.sleep(0)  # the answers go first: somebody waits for them
            record(wishes)


def fulfil(wishes: list[Wish]) -> None:
    """Accept together what can be accepted.

    If one can't be, or the connection was cut while it rested, all are left to the ViewSet, one by
    one. Not so if the database does not take anything at the moment, nor if the connection is cut
    in the commit: then they may have been accepted.
    """
    is_committing = False
    used = None  # the driver's connection: Django connects anew after one that was cut
    try:
        connection.ensure_connection()
        used = connection.connection
        with transaction.atomic():
            # In one order, or two servers could wait for each other's users.
            for wish in sorted(wishes, key=lambda wish: wish.user.pk if wish.user else 0):
                wish.outcome = make(wish)
            made = [wish.outcome for wish in wishes if isinstance(wish.outcome, Execution)]
            services.accept_executions(made)
            is_committing = True
    except Exception as error:
        logger.error("Executions could not be accepted together: %s", error)
        is_away = isinstance(error, OperationalError | InterfaceError) and (
            is_committing or connection.connection is used
        )
        for wish in wishes:
            wish.outcome = DatabaseUnavailable() if is_away else Unusual()
        connection.close()  # the next one connects anew


def make(wish: Wish) -> Execution | Throttled:
    try:
        if wish.user is not None:
            take_change(wish.user)
    except Throttled as error:
        return error
    return services.new_execution(**wish.fields, requested_by=wish.user)


def answer_to(wish: Wish) -> None:
    outcome = wish.outcome
    if wish.answer.done():  # cancelled
        return
    if isinstance(outcome, Execution):
        location = f"{wish.origin}/executions/{outcome.pk}"
        content = f"{documents.describe(outcome)[:-1]},{NO_OUTPUT}}}"
        wish.answer.set_result(Answer(content, [("location", location), *HEADERS_OF_ALL], 201))
    elif isinstance(outcome, DatabaseUnavailable):
        wish.answer.set_result(
            Answer(UNAVAILABLE, [("retry-after", str(RETRY_AFTER)), *HEADERS_OF_ALL], 503)
        )
    else:
        wish.answer.set_exception(outcome)


def record(wishes: list[Wish]) -> None:
    """Log what was answered here. What was not, the ViewSet logs."""
    for wish in wishes:
        if isinstance(wish.outcome, Execution):
            made = str(wish.outcome.pk)
            log = partial(audit.record, "create", wish.request, made=made, status=201)
        elif isinstance(wish.outcome, DatabaseUnavailable):
            log = partial(audit.record, "create", wish.request, status=503)
        else:
            continue
        wish.context.run(log, user=wish.user)
