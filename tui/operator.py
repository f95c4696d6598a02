"""Sends an operator's commands to the worker, and tells what became of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from sessions.commands import send_command
from sessions.errors import SessionError
from tui.formatting import shorten
from tui.messages import CommandSent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from textual.app import App

    from tui.snapshot import Snapshot


class Operator:
    """One session's commands; writing to the file happens off the event loop."""

    def __init__(self, app: App[Any], *, read_only: bool) -> None:
        self._app = app
        self._read_only = read_only
        self._awaited: dict[int, str] = {}

    def forget(self) -> None:
        """Another session is shown: answers of the one before are no longer told."""
        self._awaited.clear()

    def send(self, session: Path | None, kind: str, args: Mapping[str, Any] | None = None) -> None:
        """Ask the worker of a session for something."""
        if session is not None and not self._read_only:
            work = partial(self._write, session, kind, dict(args or {}))
            self._app.run_worker(work, thread=True, group="commands")

    def _write(self, session: Path, kind: str, args: dict[str, Any]) -> None:
        try:
            identity = send_command(session, kind, args)
        except SessionError as error:
            self._app.post_message(CommandSent(kind, None, str(error)))
        else:
            self._app.post_message(CommandSent(kind, identity, ""))

    def sent(self, message: CommandSent) -> None:
        """Say that a command is on its way, or why not."""
        if message.identity is None:
            self._app.notify(message.error, severity="error", markup=False)
            return
        self._awaited[message.identity] = message.kind
        self._app.notify(f"{message.kind}: asked", timeout=1.5, markup=False)

    def tell_answers(self, snapshot: Snapshot) -> None:
        """Say what the worker answered since the last snapshot."""
        if not self._awaited:
            return
        for command in snapshot.commands:
            if command.id in self._awaited and command.state in ("done", "refused"):
                kind = self._awaited.pop(command.id)
                severity: Literal["information", "warning"] = "warning" if command.state == "refused" else "information"
                told = shorten(f"{kind}: {command.reply or command.state}", 120)
                self._app.notify(told, severity=severity, markup=False)
