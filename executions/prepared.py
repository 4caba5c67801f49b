"""Queries of the ORM that are compiled to SQL once.

Of a short query nine tenths of the time go into building and compiling it, each time to the same
SQL. What is asked all the time, by the API and by workers, is built once with a `Parameter`
wherever a value differs from call to call.
"""

import datetime
import functools
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression, Field, Model, QuerySet
from django.db.models.sql import InsertQuery, UpdateQuery
from django.db.models.sql.compiler import SQLCompiler

# Takes SQL and its parameters, gives all rows.
Run = Callable[[str, Sequence[Any]], list[Any]]


def run(sql: str, parameters: Sequence[Any]) -> list[Any]:
    """On this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall()


class Parameter(Expression):
    """Stands for a value that is given by this name each time the query is executed."""

    def __init__(self, name: str, output_field: "Field[Any, Any] | None" = None) -> None:
        super().__init__(output_field)
        self.name = name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        return "%s", [self]


class Prepared:
    """A query whose SQL is kept. Made by one of the class methods, executed any number of times."""

    def __init__(self, build: Callable[[], SQLCompiler]) -> None:
        self._build = build  # not yet: the models may not be ready
        self._compiler: SQLCompiler | None = None
        self.sql = ""
        self._parameters: list[Parameter] = []
        self._converters: dict[int, Any] = {}

    @classmethod
    def select(cls, build: "Callable[[], QuerySet[Any, Any]]") -> Self:
        """A query for the rows of a `values_list`."""
        return cls(lambda: build().query.get_compiler(DEFAULT_DB_ALIAS))

    @classmethod
    def update(cls, build: "Callable[[], QuerySet[Any, Any]]", **changes: Any) -> Self:
        """What `QuerySet.update` does with these changes."""

        def compiler() -> SQLCompiler:
            query: Any = build().query.chain(UpdateQuery)
            query.add_update_values(changes)
            query.clear_select_clause()
            return query.get_compiler(DEFAULT_DB_ALIAS)

        return cls(compiler)

    @classmethod
    def insert(cls, model: type[Model], **options: Any) -> Self:
        """One new row, given by the names of all its columns (`requested_by_id`)."""

        def compiler() -> SQLCompiler:
            fields = model._meta.concrete_fields
            row = model(**{field.attname: Parameter(field.attname) for field in fields})
            query = InsertQuery(model, **options)
            query.insert_values(fields, [row])
            return query.get_compiler(DEFAULT_DB_ALIAS)

        return cls(compiler)

    def compile(self) -> SQLCompiler:
        """Compile it unless that is done: by the first who executes it, if by nobody before."""
        if self._compiler is None:
            compiler = self._build()
            compiled: Any = compiler.as_sql()
            # An insert could take several statements.
            sql, parameters = compiled[0] if isinstance(compiled, list) else compiled
            columns = [column[0] for column in compiler.select or []]
            self._converters = compiler.get_converters(columns)
            self._parameters = [each for each in parameters if isinstance(each, Parameter)]
            # What never differs is part of the text: of a bound value SQLite could not tell
            # whether a partial index serves.
            self.sql = sql.replace("%%", "%%%%") % tuple(
                "%s" if isinstance(each, Parameter) else quote(each) for each in parameters
            )
            self._compiler = compiler
        return self._compiler

    def bind(self, values: dict[str, Any]) -> list[Any]:
        """What to execute `sql` with: these values, as the database takes them."""
        self.compile()
        return [adapt(values[each.name]) for each in self._parameters]

    def execute(self, **values: Any) -> int:
        """How many rows it changed."""
        parameters = self.bind(values)
        with connection.cursor() as cursor:
            cursor.execute(self.sql, parameters)
            return cursor.rowcount

    def execute_many(self, rows: Iterable[dict[str, Any]]) -> None:
        if parameters := [self.bind(values) for values in rows]:
            with connection.cursor() as cursor:
                cursor.executemany(self.sql, parameters)

    def fetch(self, **values: Any) -> list[Any]:
        """Its rows, with the values that the fields have in Python."""
        rows = self.rows(run, **values)
        if self._converters:
            return list(self.compile().apply_converters(rows, self._converters))
        return rows

    def rows(self, run: Run, /, **values: Any) -> list[Any]:
        """Its rows as `run` gets them from the database's driver: on SQLite, a UUID is text."""
        parameters = self.bind(values)
        return run(self.sql, parameters)


def quote(constant: str | int | None) -> str:
    """A constant of our own code as SQL, ready for `%`."""
    if constant is None:
        return "NULL"
    text = str(constant).replace("'", "''").replace("%", "%%")
    return text if isinstance(constant, int) else f"'{text}'"


def adapt(value: Any) -> Any:
    """A value as the database's driver takes it."""
    if value is None or isinstance(value, str):  # most of them
        return value
    if isinstance(value, uuid.UUID) and not database().features.has_native_uuid_field:
        return value.hex
    if isinstance(value, datetime.datetime):
        return database().ops.adapt_datetimefield_value(value)
    if isinstance(value, datetime.timedelta) and not database().features.has_native_duration_field:
        return value // datetime.timedelta(microseconds=1)
    return value


@functools.cache
def database() -> BaseDatabaseWrapper:
    """What the database is like. Not to be connected: threads share it."""
    return connections.create_connection(DEFAULT_DB_ALIAS)
