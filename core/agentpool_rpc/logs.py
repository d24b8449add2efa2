# SPDX-License-Identifier: Apache-2.0
"""Structured logs: one JSON object a line on standard error, or readable lines on a terminal.

Events are named in the past tense with key/value facts; secrets, tokens and payloads are never values.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(component: str, level: str = "INFO", pretty: bool = False) -> None:
    """Set up structlog and the standard library's logging for a process; called once at start."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level must be one of DEBUG, INFO, WARNING, ERROR, not {level!r}")
    renderer = structlog.dev.ConsoleRenderer() if pretty else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(component=component)
    logging.basicConfig(stream=sys.stderr, level=max(number, logging.WARNING), format="%(message)s")
