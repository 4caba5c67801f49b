"""The peer of the worker: a Celery task that runs a command and stores its end in a database.

    celery --app executions.benchmarks.celery_peer worker

takes the broker from CELERY_BROKER_URL, and the database from CELERY_PEER_DATABASE: the path of a
SQLite file, with the settings of ours, or the URL of one of PostgreSQL.
"""

import datetime
import functools
import os
import sqlite3
import subprocess
from typing import Any

import psycopg
from celery import Celery

app = Celery("peer")
app.conf.task_ignore_result = True
app.conf.broker_connection_retry_on_startup = True

DATABASE = os.environ.get("CELERY_PEER_DATABASE", "")
TABLE = """
    CREATE TABLE ended (
        id integer PRIMARY KEY, status text, exit_code integer, ended_at text, output text
    )
"""


@functools.cache
def connect() -> Any:
    """One connection for each process of Celery's."""
    if DATABASE.startswith("postgres"):
        return psycopg.connect(DATABASE, autocommit=True)
    connection = sqlite3.connect(DATABASE, timeout=30, isolation_level=None)
    connection.execute("PRAGMA synchronous=FULL")
    return connection


@app.task
def run(number: int, command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    sql = "UPDATE ended SET status = ?, exit_code = ?, ended_at = ?, output = ? WHERE id = ?"
    values = ("completed", done.returncode, str(datetime.datetime.now(datetime.UTC)))
    mark = "%s" if DATABASE.startswith("postgres") else "?"
    connect().execute(sql.replace("?", mark), (*values, done.stdout.decode(), number))
