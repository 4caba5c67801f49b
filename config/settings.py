"""All settings: from the environment, then from `.env`, else as secure as can be."""

import sys

from environs import validate
from pythonjsonlogger.core import RESERVED_ATTRS

from config.environment import (
    BASE_DIR,
    SETTINGS_ERRORS,  # noqa: F401 — a setting too, for the checks
    database,
    names,
    rate,
    secret_key,
    setting,
)

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
