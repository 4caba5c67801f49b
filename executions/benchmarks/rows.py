"""Fills a service's database with executions as they would have been after years."""

from executions.tests.databases import Database, PostgresqlDatabase

PROJECTS = 10  # of which executions take turns

# Of a hundred, one has failed, one was cancelled, and the others have completed; each with a line
# of output. The ids are of version 7, ten milliseconds apart, the last one just now.
SQLITE = """
    WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < {count} - 1),
    made AS (
        SELECT n, CAST(strftime('%s') AS INTEGER) * 1000 - ({count} - n) * 10 AS ms FROM n
    ),
    row AS (
        SELECT n, printf('%012x7%03x8%015x', ms, n % 4096, n) AS id,
            strftime('%Y-%m-%d %H:%M:%f000', ms / 1000.0, 'unixepoch') AS moment
        FROM made
    )
    INSERT INTO executions_execution ({columns}) SELECT
        id, 'p' || (n % {projects}), 'b' || n, 'The basket forgets its last item.', 60,
        CASE n % 100 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END,
        moment, moment, moment, n % 100 = 0,
        CASE n % 100 WHEN 0 THEN 'exit_code' END,
        CASE n % 100 WHEN 0 THEN 'The command ended with exit code 1.' END,
        30, 0, 'w'
    FROM row
"""
POSTGRESQL = """
    WITH made AS (
        SELECT n, (extract(epoch FROM now()) * 1000)::bigint - ({count} - n) * 10 AS ms
        FROM generate_series(0, {count} - 1) n
    ),
    row AS (
        SELECT n, to_timestamp(ms / 1000.0) AS moment, (
            lpad(to_hex(ms), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0')
            || '8' || lpad(to_hex(n), 15, '0')
        )::uuid AS id
        FROM made
    )
    INSERT INTO executions_execution ({columns}) SELECT
        id, 'p' || (n % {projects}), 'b' || n, 'The basket forgets its last item.', 60,
        CASE n % 100 WHEN 0 THEN 'failed' WHEN 1 THEN 'cancelled' ELSE 'completed' END,
        moment, moment, moment, (n % 100 = 0)::int,
        CASE n % 100 WHEN 0 THEN 'exit_code' END,
        CASE n % 100 WHEN 0 THEN 'The command ended with exit code 1.' END,
        30, 0, 'w'
    FROM row
"""
COLUMNS = (
    "id, project_id, bead_id, context, timeout, status, started_at, running_at, completed_at,"
    "exit_code, failure_reason, error, output_size, output_left_out, worker"
)
CHUNKS = """
    INSERT INTO executions_outputchunk (execution_id, "offset", data)
    SELECT id, 0, {data} FROM executions_execution
"""


def fill(database: Database, count: int) -> None:
    """Add so many executions to an empty, migrated database."""
    is_postgresql = isinstance(database, PostgresqlDatabase)
    sql = POSTGRESQL if is_postgresql else SQLITE
    text = "The basket remembers. 3 files."[:30]
    data = f"'{text}'::bytea" if is_postgresql else f"CAST('{text}' AS BLOB)"
    database.execute(sql.format(count=count, projects=PROJECTS, columns=COLUMNS))
    database.execute(CHUNKS.format(data=data))
    database.execute("ANALYZE" if is_postgresql else "PRAGMA wal_checkpoint(TRUNCATE)")
