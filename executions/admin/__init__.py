"""The admin: a window on executions, and the keys to the API."""

from executions.admin import executions, limits, tokens

__all__ = ["executions", "limits", "tokens"]
