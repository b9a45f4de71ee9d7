"""TensorRT's messages in Python's logging."""

from __future__ import annotations

import logging

import tensorrt as trt

_LEVELS = {
    'INTERNAL_ERROR': logging.ERROR,
    'ERROR': logging.ERROR,
    'WARNING': logging.WARNING,
    'INFO': logging.DEBUG,
    'VERBOSE': logging.DEBUG,
}
_log = logging.getLogger(__name__)


class Logger(trt.ILogger):
    """Passes messages on, and keeps the errors for the exception that follows.

    TensorRT returns None or False on failure and says why only here.
    """

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self._errors: list[str] = []

    def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
        """Take a message, from any thread."""
        level = _LEVELS[severity.name]
        _log.log(level, msg)
        if level == logging.ERROR:
            self._errors.append(msg.strip())

    def take_errors(self) -> str:
        """Return the errors since the last call, for people."""
        errors, self._errors = self._errors, []
        return '; '.join(dict.fromkeys(errors)) or 'TensorRT gave no reason'


LOGGER = Logger()
"""The only one: TensorRT keeps the first logger of a process and warns of others."""
