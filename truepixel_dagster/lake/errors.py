"""Errors of the lake that an operator or user must correct. This module imports nothing heavy."""


class LakeError(Exception):
    """The lake cannot be read or written; the message says where, why, and what to do."""


class NotImported(Exception):
    """No row of a file was imported; the message says why, with the bad lines."""


class QueryRefused(Exception):
    """A query cannot be run; the message says why."""
