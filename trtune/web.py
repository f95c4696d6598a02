"""The screen in a browser, by textual-serve: one process per tab, behind a token.

textual-serve itself asks nobody who they are. Whoever reaches the screen can start and stop work, so nothing is answered
without the token: it comes once in the address, and then in a cookie that no other site can send.
"""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web
from textual_serve.server import Server

from sessions.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

COOKIE = "trtune_token"
_FOREIGN_FONT = "https://fonts.googleapis.com/css?family=Roboto%20Mono"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
        " font-src 'self' data:; connect-src 'self' ws: wss:; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""The page fetches nothing from elsewhere, is shown in no frame, and its address is told to nobody."""


class TokenServer(Server):
    """Answers only who has the token.

    Args:
        command: Shows the screen; run once per tab.
        host: Address to listen on.
        port: Port to listen on.
        public_url: Address that browsers use; empty: host and port.
        token: The secret; one is made when none is given.
    """

    def __init__(self, command: str, host: str, port: int, public_url: str = "", token: str = "") -> None:
        shown = f"[{host}]" if ":" in host else host
        super().__init__(
            command, host, port, title="trtune", public_url=public_url.rstrip("/") or f"http://{shown}:{port}"
        )
        self.token = token or secrets.token_urlsafe(24)

    @property
    def address(self) -> str:
        """The address to open, with its token."""
        return f"{self.public_url}/?token={self.token}"

    async def on_startup(self, app: web.Application) -> None:
        """Say where it is."""
        print(f"open  {self.address}", flush=True)  # noqa: T201 - what the command is asked for
        print("Ctrl-C ends it; the work of sessions goes on", flush=True)  # noqa: T201

    async def _make_app(self) -> web.Application:
        app = await super()._make_app()
        app.middlewares.append(self._guard)
        return app

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if self._fits(request.query.get("token", "")) and request.path == "/":
            come_back = web.HTTPFound("/")
            come_back.set_cookie(COOKIE, self.token, httponly=True, samesite="Strict", secure=self._encrypted)
            come_back.headers.update(_HEADERS)
            raise come_back
        if not self._fits(request.cookies.get(COOKIE, "")):
            raise web.HTTPForbidden(text="trtune: open the address that 'trtune serve' printed, with its token\n")
        if request.path == "/ws" and not self._same_origin(request):
            raise web.HTTPForbidden(text="trtune: another site asked for the screen\n")
        answer = await handler(request)
        if isinstance(answer, web.Response) and answer.content_type == "text/html" and answer.text:
            answer.text = answer.text.replace(_FOREIGN_FONT, "data:text/css,")
        if not answer.prepared:
            answer.headers.update(_HEADERS)
        return answer

    @property
    def _encrypted(self) -> bool:
        return self.public_url.startswith("https:")

    def _fits(self, told: str) -> bool:
        return hmac.compare_digest(told.encode(), self.token.encode())

    def _same_origin(self, request: web.Request) -> bool:
        origin = request.headers.get("Origin")
        return origin is None or urlsplit(origin).netloc in (request.host, urlsplit(self.public_url).netloc)


def serve(command: str, host: str, port: int, public_url: str) -> None:
    """Serve until Ctrl-C.

    Raises:
        SessionError: If the port is taken.
    """
    try:
        TokenServer(command, host, port, public_url).serve()
    except OSError as error:
        raise SessionError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); choose another --port"
        ) from error
