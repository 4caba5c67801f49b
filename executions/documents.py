"""JSON of executions that the database makes, equal to what the serializers make.

With a hundred executions on a page, turning each row into a model, that into a dictionary and that
into JSON takes forty times as long as having the database write the text.
"""

import datetime
import json
from typing import Any

from django.db.models import DateTimeField, F, Func, TextField, UUIDField

from executions.models import Execution
from executions.serializers import ExecutionSerializer


class UuidText(Func):
    """A UUID as it is written."""

    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **options: Any) -> Any:
        column, parameters = compiler.compile(self.source_expressions[0])
        parts = [(1, 8), (9, 4), (13, 4), (17, 4), (21, 12)]
        pieces = [f"substr({column}, {start}, {length})" for start, length in parts]
        return "||'-'||".join(pieces), list(parameters) * len(parts)

    def as_postgresql(self, compiler: Any, connection: Any, **options: Any) -> Any:
        return compiler.compile(self.source_expressions[0])  # as JSON, it is


class TimeText(Func):
    """A time as ISO 8601 has it, in UTC; like Python's, without a fraction where that is zero."""

    output_field = TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **options: Any) -> Any:
        column, parameters = compiler.compile(self.source_expressions[0])
        return f"replace({column}, ' ', 'T')||'Z'", parameters

    def as_postgresql(self, compiler: Any, connection: Any, **options: Any) -> Any:
        column, parameters = compiler.compile(self.source_expressions[0])
        text = f"""to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
        return f"replace({text}, '.000000Z', 'Z')", parameters


class JsonObject(Func):
    """The text of a JSON object with these members in this order.

    Django's own `JSONObject` is a `jsonb` on PostgreSQL, which sorts them.
    """

    output_field = TextField()

    def __init__(self, **members: Any) -> None:
        super().__init__(*members.values())
        self.names = list(members)

    def as_sqlite(self, compiler: Any, connection: Any, **options: Any) -> Any:
        return self._as_call(compiler, "json_object(%s)")

    def as_postgresql(self, compiler: Any, connection: Any, **options: Any) -> Any:
        return self._as_call(compiler, "json_build_object(%s)::text")

    def _as_call(self, compiler: Any, template: str) -> Any:
        arguments: list[str] = []
        parameters: list[Any] = []
        for name, expression in zip(self.names, self.source_expressions, strict=True):
            sql, its_parameters = compiler.compile(expression)
            arguments += [f"'{name}'", sql]
            parameters += its_parameters
        return template % ", ".join(arguments), parameters


def _member(name: str) -> Any:
    if name == "requested_by":
        return F("requested_by__username")
    field = Execution._meta.get_field(name)
    if isinstance(field, UUIDField):
        return UuidText(F(name))
    return TimeText(F(name)) if isinstance(field, DateTimeField) else F(name)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode

# An execution as lists show it.
EXECUTION = JsonObject(**{name: _member(name) for name in ExecutionSerializer.Meta.fields})


def describe(execution: Execution) -> str:
    """The same of an execution that is at hand."""
    return _encode({name: _plain(execution, name) for name in ExecutionSerializer.Meta.fields})


def _plain(execution: Execution, name: str) -> Any:
    value = getattr(execution, name)
    if isinstance(value, datetime.datetime):
        return value.isoformat().removesuffix("+00:00") + "Z"
    return value if value is None or isinstance(value, str | int) else str(value)
