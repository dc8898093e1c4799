"""Errors at serve time: of a request, or of the artifact."""

from __future__ import annotations

import logging
import traceback

logger = logging.getLogger(__name__)

#: Status -> reason phrase, in ASCII: TorchServe's worker dies on any other.
REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    424: "Failed Dependency",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


class RequestError(Exception):
    """A request that cannot be served; others in its batch are not affected.

    `status` is a key of `REASONS`, `message` one sentence for the client that says what to send
    instead, and `retry_after` the seconds after which the same request may succeed, if ever.
    """

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        if status not in REASONS:
            raise ValueError(f"status {status} has no reason phrase in REASONS")
        self.status = status
        self.message = message
        self.retry_after = retry_after


class ArtifactError(Exception):
    """An artifact that this code cannot serve: damaged, incomplete or of another version."""


def last_line(error: Exception) -> str:
    """Return the message of an error without the TorchScript traceback above it."""
    return str(error).strip().rpartition("\n")[2]


def log_failure(doing: str, error: Exception) -> None:
    """Log the place of a failure without the message, which may quote the client's text."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s while %s\n%s", type(error).__name__, doing, frames)
