"""JSON as strict as the API promises: UTF-8, no name twice, and no more than it needs."""

import json
from typing import IO, Any

from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

# A context of 100 KiB, each byte escaped to six as JSON allows, and room for the rest.
MAX_BODY_SIZE = 1024 * 1024


class BodyTooLarge(APIException):
    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = f"The body has more than {MAX_BODY_SIZE} bytes."
    default_code = "too_large"


class StrictJSONParser(JSONParser):
    """Raises ParseError (400) for what is not strict JSON, BodyTooLarge (413) beyond 1 MiB."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Any = None,
    ) -> Any:
        body = stream.read(MAX_BODY_SIZE + 1)
        if len(body) > MAX_BODY_SIZE:
            raise BodyTooLarge
        try:
            return DECODER.decode(body.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ParseError(f"The body is not UTF-8: {error.reason}.") from error
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from error
        except RecursionError as error:
            raise ParseError("JSON parse error - nested too deeply") from error


def _object_without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        name.encode()  # raises ValueError for half a character, which no answer could repeat
        if name in found:
            raise ValueError(f"{json.dumps(name)} is given twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


DECODER = json.JSONDecoder(
    object_pairs_hook=_object_without_repetition, parse_constant=_refuse_constant
)
