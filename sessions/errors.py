"""What can go wrong with a session file.

SessionError
 ├─ NotASession        the path is no trtune session
 ├─ NewerSession       written by a newer trtune than this one
 ├─ SessionExists      the path is taken
 ├─ SessionBusy        another worker writes to it
 ├─ SessionUnwritable  nothing more can be recorded: the disk is full, or has become read-only
 ├─ DamagedData        a stored value cannot be decoded
 ├─ BadCondition       a condition on a comparison cannot be understood
 └─ BadSlo             an SLO cannot be understood (sessions.slo)
"""

from __future__ import annotations


class SessionError(Exception):
    """Base of every error about a session; its text is one line fit for a person."""


class NotASession(SessionError):
    """The file is missing, or is something else than a trtune session."""


class NewerSession(SessionError):
    """The file was written by a newer trtune whose format this one does not know."""


class SessionExists(SessionError):
    """A new session was asked for at a path that is taken."""


class SessionBusy(SessionError):
    """Another worker is writing to the session."""


class SessionUnwritable(SessionError):
    """Nothing more can be recorded: the disk is full to the last byte, or has become read-only."""


class DamagedData(SessionError):
    """A stored value cannot be decoded."""


class BadCondition(SessionError):
    """A condition cannot be understood; the text says what is wrong and how to write it."""
