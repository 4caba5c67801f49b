.PHONY: run test test-postgresql check check-docker bench superuser

PYTHON ?= python3

run: .venv/ready
	@exec .venv/bin/python manage.py run

test: .venv/ready
	.venv/bin/python -m pytest -n 4 --dist loadgroup

# The same on PostgreSQL, with a server that is started for it.
test-postgresql: .venv/ready
	.venv/bin/python -m executions.tests.postgresql $(MAKE) test

# Lint, format, types and what Django checks itself; CI runs this and `test`.
check: .venv/ready-to-check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy .
	.venv/bin/python manage.py makemigrations --check --dry-run
	.venv/bin/python manage.py spectacular --validate --fail-on-warn --file /dev/null
	ALLOWED_HOSTS=executions.example.com .venv/bin/python manage.py check --deploy --fail-level WARNING

# The figures of the README, each beside its peer. What is missing of wrk, redis-server, PostgreSQL
# and a Docker Engine is said and left out.
bench: .venv/ready-to-bench
	.venv/bin/python -m executions.benchmarks

# What is wrong with the Docker Engine or EXECUTION_IMAGE, if anything.
check-docker: .venv/ready
	@.venv/bin/python manage.py check_docker

# The first user who can log in to the admin.
superuser: .venv/ready
	.venv/bin/python manage.py migrate --verbosity 0
	.venv/bin/python manage.py createsuperuser

.venv/ready: requirements.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/ready-to-check: .ci/requirements.txt .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r .ci/requirements.txt
	touch $@

.venv/ready-to-bench: executions/benchmarks/requirements.txt .venv/ready
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r executions/benchmarks/requirements.txt
	touch $@
