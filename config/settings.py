"""All settings: from the environment, then from `.env`, else as secure as can be.

A value that can't be understood never raises here. It is collected in
`SETTINGS_ERRORS`, which the system checks (`executions/checks.py`) turn into
errors before anything starts; until then its safe default stands in.
"""

import contextlib
import os
import secrets
import sys
from pathlib import Path
from typing import Any

import dj_database_url
from environs import Env, EnvValidationError, validate
from pythonjsonlogger.core import RESERVED_ATTRS

BASE_DIR = Path(__file__).resolve().parent.parent

# What is wrong with the environment: a variable's name, and one sentence for each fault.
SETTINGS_ERRORS: dict[str, list[str]] = {}

try:
    Env().read_env(str(BASE_DIR / ".env"), recurse=False)
except (OSError, ValueError):
    SETTINGS_ERRORS[".env"] = ["It can't be read as UTF-8 text."]


def setting(kind: str, name: str, default: Any, **options: Any) -> Any:
    """Read the variable `name` with the parser `kind` of environs.

    Unset and empty give the default. So does a value that does not fit, which
    is kept in `SETTINGS_ERRORS`.
    """
    if not os.environ.get(name):
        return default
    reader = Env(eager=False)
    value = getattr(reader, kind)(name, **options)
    try:
        reader.seal()
    except EnvValidationError as error:
        messages = error.error_messages  # by variable, of which there is one
        SETTINGS_ERRORS[name] = messages if isinstance(messages, list) else messages[name]
        return default
    return value


def names(name: str, default: list[str]) -> list[str]:
    """A list whose items are separated by commas, and perhaps by spaces."""
    items = setting("list", name, default, subcast=str.strip)
    return [item for item in items if item]


def rate(name: str, default: str) -> tuple[int, int]:
    """Such as `600/minute`: how many, in how many seconds."""
    shape = validate.Regexp(
        rf"^[1-9]\d{{0,5}}/({'|'.join(SECONDS)})\Z",
        error=f"It has to be a number/{', '.join(SECONDS)}, such as {default}.",
    )
    count, _, unit = setting("str", name, default, validate=shape).partition("/")
    return int(count), SECONDS[unit]


def database(url: str, *, data_dir: Path) -> dict[str, Any]:
    """Django's settings of the database that `url` names; SQLite in `data_dir` if it is empty."""
    embedded = f"sqlite:///{data_dir / 'executions.sqlite3'}"
    try:
        parsed = dj_database_url.parse(url or embedded, conn_max_age=None)
        fault = fault_of_database(parsed) if url else None
    except ValueError:  # in the library's words, which may repeat the password that the URL holds
        fault = "It has to be of the form sqlite:////path/to/file or postgres://user@host/name."
    if fault is not None:
        SETTINGS_ERRORS["DATABASE_URL"] = [fault]
        parsed = dj_database_url.parse(embedded, conn_max_age=None)
    if parsed["ENGINE"] == POSTGRESQL:
        # A request looks first whether the connection that it takes over is still there.
        parsed["CONN_HEALTH_CHECKS"] = True
        return {**parsed, "OPTIONS": POSTGRESQL_OPTIONS | parsed.get("OPTIONS", {})}
    # A file for the tests, since they also write from several threads and processes.
    return {**parsed, "OPTIONS": SQLITE_OPTIONS, "TEST": {"NAME": str(data_dir / "test.sqlite3")}}


def fault_of_database(parsed: Any) -> str | None:
    """What is wrong with the settings of a database, in one sentence; None if it can be used."""
    if parsed["ENGINE"] == POSTGRESQL:
        return None if parsed["NAME"] else "It names no database."
    if parsed["ENGINE"] != "django.db.backends.sqlite3":
        return "Only SQLite and PostgreSQL can be used."
    path = Path(parsed["NAME"])
    if not path.is_absolute():
        return "It has to name a file, as sqlite:////path/to/file."
    return None if path.parent.is_dir() else f"{path.parent} is not a folder."


def secret_key(data_dir: Path) -> str:
    """The key kept in `data_dir`, made at the first start, readable by its owner only."""
    path = data_dir / "secret_key"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            fresh = path.with_name(f"secret_key.{os.getpid()}")
            fresh.touch(mode=0o600)
            with fresh.open("w") as file:
                file.write(secrets.token_urlsafe(50))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)  # whole or not at all, and the first of two wins
            fresh.unlink()
        if key := path.read_text("ascii").strip():
            return key
        SETTINGS_ERRORS["SECRET_KEY"] = [f"{path} is empty. Remove it for a new one."]
    except OSError as error:
        SETTINGS_ERRORS["DATA_DIR"] = [f"{error.strerror}: {error.filename}"]
    except UnicodeDecodeError:
        SETTINGS_ERRORS["SECRET_KEY"] = [f"{path} is not text. Remove it for a new one."]
    return secrets.token_urlsafe(50)


POSTGRESQL = "django.db.backends.postgresql"
POSTGRESQL_OPTIONS = {
    "connect_timeout": 5,  # seconds; then the API says 503
    # Statements that are asked all the time are planned once.
    "server_side_binding": True,
    "prepare_threshold": 5,
    "tcp_user_timeout": 10_000,  # milliseconds after which a peer that is silent is given up
    "options": (
        # A process that is suspended must not hold up the others for longer than this (ms).
        "-c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000"
        # Disks have no heads to move any more. With the default of 4 a list of a project would
        # rather be found by reading everybody's executions than by the project's own index.
        " -c random_page_cost=1.1"
    ),
}
SQLITE_OPTIONS = {
    # Take the write lock at BEGIN: a transaction that reads first and writes later could not
    # wait for it and would fail as "locked".
    "transaction_mode": "IMMEDIATE",
    "timeout": 5,  # seconds to wait for the lock; then the API says 503
    # FULL, since a 201 is kept through a power cut too.
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-16000;"
        "PRAGMA mmap_size=134217728; PRAGMA journal_size_limit=67108864;"
    ),
}
SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
MIB = 1024 * 1024
HOUR = 60 * 60  # in seconds
DAY = 24 * HOUR
POSITIVE = validate.Range(min=1, max=10_000)
LOCAL_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

# The service

PORT = setting("int", "PORT", 8000, validate=validate.Range(min=1, max=65535))
DATA_DIR = setting("path", "DATA_DIR", BASE_DIR / "var").absolute()
DEBUG = setting("bool", "DEBUG", False)
OPEN_ACCESS = setting("bool", "OPEN_ACCESS", False)
ALLOWED_HOSTS = names("ALLOWED_HOSTS", LOCAL_HOSTS)
SECRET_KEY = setting("str", "SECRET_KEY", "") or secret_key(DATA_DIR)
DATABASES = {"default": database(setting("str", "DATABASE_URL", ""), data_dir=DATA_DIR)}

# How often a user may start, cancel or retry something, and a login may be tried.
THROTTLE_CHANGES = rate("THROTTLE_CHANGES", "600/minute")
THROTTLE_LOGINS = rate("THROTTLE_LOGINS", "20/hour")

# Executions. Where the seed's own project names a default it is ours: 6 h, 8 GB, 4 cpus, 1000 pids.

EXECUTION_RUNNER = setting(
    "str", "EXECUTION_RUNNER", "process", validate=validate.OneOf(["process", "docker"])
)
EXECUTION_COMMAND = setting(
    "str",
    "EXECUTION_COMMAND",
    r"printf -- 'project %s\nbead %s\ncontext %s\n' {project_id} {bead_id} {context}",
)
EXECUTION_ENV = names("EXECUTION_ENV", [])
EXECUTION_WORKSPACES = setting("path", "EXECUTION_WORKSPACES", None)
EXECUTION_TIMEOUT = setting(
    "int", "EXECUTION_TIMEOUT", 6 * HOUR, validate=validate.Range(min=1, max=365 * DAY)
)
EXECUTION_GRACE_PERIOD = setting(
    "float", "EXECUTION_GRACE_PERIOD", 10.0, validate=validate.Range(min=0, max=DAY)
)
EXECUTION_OUTPUT_LIMIT = setting(
    "int", "EXECUTION_OUTPUT_LIMIT", 16 * MIB, validate=validate.Range(min=1, max=2**40)
)
EXECUTION_IMAGE = setting("str", "EXECUTION_IMAGE", "")
EXECUTION_MEMORY = setting(
    "str",
    "EXECUTION_MEMORY",
    "8g",
    validate=validate.Regexp(r"^[1-9]\d*[kmg]?\Z", error="It has to be like 512m or 8g."),
)
EXECUTION_CPUS = setting(
    "float", "EXECUTION_CPUS", 4.0, validate=validate.Range(min=0.01, max=1024)
)
EXECUTION_PIDS = setting("int", "EXECUTION_PIDS", 1000, validate=validate.Range(min=2, max=2**22))
EXECUTION_NETWORK = setting("str", "EXECUTION_NETWORK", "none")
EXECUTION_USER = setting(
    "str",
    "EXECUTION_USER",
    "1000:1000",
    validate=validate.Regexp(
        r"^[1-9]\d*:[1-9]\d*\Z", error="It has to be like 1000:1000, and neither of them root."
    ),
)
EXECUTION_READ_ONLY = setting("bool", "EXECUTION_READ_ONLY", False)
STREAM_LIMIT = setting("int", "STREAM_LIMIT", 200, validate=POSITIVE)
EXECUTION_PROJECT_CONCURRENCY = setting(
    "int", "EXECUTION_PROJECT_CONCURRENCY", 1, validate=POSITIVE
)
WORKER_CONCURRENCY = setting("int", "WORKER_CONCURRENCY", 4, validate=POSITIVE)
WORKER_LEASE = setting("float", "WORKER_LEASE", 30.0, validate=validate.Range(min=0.5, max=DAY))
WORKER_HEARTBEAT = setting("float", "WORKER_HEARTBEAT", 5.0, validate=validate.Range(min=0.1))

# Django

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "executions",
    "executions.apps.ExecutionsAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
]
MIDDLEWARE = [
    "config.request_ids.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
APPEND_SLASH = False  # every path is answered with and without the slash, without a redirect
LOGIN_URL = "rest_framework:login"
LOGIN_REDIRECT_URL = "api-root"
USE_I18N = False  # the API, the admin and the browsable API speak English
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True  # straight from the packages: nothing has to be collected first
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = True  # pages have the token in themselves
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "img-src": ["'self'", "data:"],  # the style sheets of the browsable API and the docs
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
    }
}
# The style elements of ReDoc: those that it makes empty and fills by script, and one more.
REDOC_STYLES = [
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
    "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='",
]
# Plain HTTP is for this machine only; a service under another name has TLS in front.
HTTPS_ONLY = setting("bool", "HTTPS_ONLY", not set(ALLOWED_HOSTS) <= set(LOCAL_HOSTS))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS_ONLY
SECURE_REDIRECT_EXEMPT = ["^(livez|readyz)/?$"]  # whoever asks does so from inside
SECURE_HSTS_SECONDS = 365 * 24 * 60 * 60 if HTTPS_ONLY else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS_ONLY
# The header by which the proxy in front says "https", such as X-Forwarded-Proto. Without
# such a proxy anyone could send it, so it is believed only when it is named here.
if proxy_header := setting("str", "SECURE_PROXY_SSL_HEADER", ""):
    SECURE_PROXY_SSL_HEADER = (f"HTTP_{proxy_header.upper().replace('-', '_')}", "https")
# And by which it says who calls, such as X-Forwarded-For; its last address counts.
PROXY_ADDRESS_HEADER = setting("str", "PROXY_ADDRESS_HEADER", None)

# Lines for people at a terminal, JSON for programs.
LOG_FORMAT = setting(
    "str",
    "LOG_FORMAT",
    "line" if sys.stderr.isatty() else "json",
    validate=validate.OneOf(["line", "json"]),
)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "config.request_ids.RequestIdFilter"}},
    "formatters": {
        "line": {
            "format": "{asctime} {levelname} {name} [{request_id}]: {message}",
            "style": "{",
        },
        "json": {
            "()": "pythonjsonlogger.json.JsonFormatter",
            "fmt": "{levelname}{name}{message}{request_id}",
            "style": "{",
            "timestamp": True,
            "rename_fields": {"levelname": "level", "name": "logger"},
            "reserved_attrs": [*RESERVED_ATTRS, "request", "server_time"],
        },
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "formatter": LOG_FORMAT,
            "filters": ["request_id"],
        }
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": [], "propagate": True},
        # Anyone can send a wrong Host: it is answered with 400 and needs no traceback.
        "django.security.DisallowedHost": {"level": "CRITICAL"},
    },
}

# The API and its description

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "executions.authentication.TokenAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["executions.permissions.MayCall"],
    "DEFAULT_PARSER_CLASSES": ["executions.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.JSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "executions.exceptions.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Executions",
    "DESCRIPTION": (
        "Starts, shows and steers *executions* of a *bead* (an issue of the beads tracker) of a "
        "*project*, and keeps their output."
    ),
    "VERSION": "1.0.0",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    # Swagger UI would else ask a validator on the internet about the schema.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
    "PREPROCESSING_HOOKS": ["executions.schema.without_trailing_slash"],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "executions.schema.with_known_fields_only",
    ],
    "ENUM_NAME_OVERRIDES": {
        "ExecutionStatus": "executions.models.Execution.Status",
        "FailureReason": "executions.models.Execution.FailureReason",
    },
}
