# SPDX-License-Identifier: Apache-2.0
"""The root of all errors."""

from __future__ import annotations

from typing import ClassVar

DOMAIN = "agentpool.dev"
OUTCOME, UNKNOWN = "outcome", "unknown"
"""A detail of failures after which the request may or may not have taken effect."""


class AgentPoolError(Exception):
    """A refusal or failure with a meaning for the caller.

    Attributes:
        code: stable CamelCase reason, the `code` of problem JSON and the `reason` of ErrorInfo.
        http_status: status of the REST answer.
        grpc_status: name of the `grpc.StatusCode`.
        retryable: whether the same request may be sent again unchanged and can succeed.
        remedy: what the caller can do about it, one sentence.
        retry_after_seconds: how long to wait before trying again; None when waiting does not help.
        details: further string facts for the caller (for example the owner of an instance).
    """

    code: ClassVar[str] = "Internal"
    http_status: ClassVar[int] = 500
    grpc_status: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False
    remedy: ClassVar[str] = "Report this with the request id; the log of the component has the cause."

    def __init__(
        self,
        message: str,
        *,
        remedy: str | None = None,
        retry_after_seconds: float | None = None,
        details: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = remedy if remedy is not None else type(self).remedy
        self.retry_after_seconds = retry_after_seconds
        self.details = details or {}

    @property
    def repeatable(self) -> bool:
        """Whether the caller may send the same request again after this very failure: it is of a kind that
        allows it, and nothing is said of an outcome that is unknown."""
        return self.retryable and self.details.get(OUTCOME) != UNKNOWN
