"""The errors that structgen raises: what was found, what was expected, what to do.

Exit status of the command line: 2 for an `InputError` or `ConfigError`, 3 for everything else.
"""

from __future__ import annotations


class StructgenError(Exception):
    """Base of every error that structgen raises on purpose; its text is meant for the user."""


class InputError(StructgenError):
    """A file or a record of the user cannot be used.

    `where` names the file and the record; `found`, `expected` and `remedy` say the rest. All are part of the text.
    """

    def __init__(self, message: str, *, where: str = "", found: str = "", expected: str = "", remedy: str = "") -> None:
        self.message, self.where, self.found, self.expected, self.remedy = message, where, found, expected, remedy
        parts = [f"{where}: {message}" if where else message]
        parts += [f"{label} {text}" for label, text in (("found", found), ("expected", expected), ("remedy:", remedy)) if text]
        super().__init__("; ".join(parts))

    def __reduce__(self) -> tuple:
        """Errors cross process borders on a cluster; keyword-only fields need this."""
        return _input_error, (type(self), self.message, self.where, self.found, self.expected, self.remedy)


def _input_error(cls: type[InputError], message: str, where: str, found: str, expected: str, remedy: str) -> InputError:
    return cls(message, where=where, found=found, expected=expected, remedy=remedy)


class ConfigError(StructgenError):
    """A setting is unknown, of the wrong type or impossible together with another one."""


class CheckpointError(StructgenError):
    """A model file cannot be read, lacks a tensor, holds one too many or one of the wrong shape."""


class NumericalError(StructgenError):
    """A computation gave values that are not finite."""


class ClusterError(StructgenError):
    """The cluster lacks a resource, cannot be reached or lost a node that the work needs."""


class ServerError(StructgenError):
    """A server of alignments cannot be reached, refuses, or answers with something else than was asked for."""
