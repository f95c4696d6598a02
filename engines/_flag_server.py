"""Servers whose settings are flags of their command and nothing else: vLLM, SGLang, LMDeploy, TGI."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from engines._flags import check_arguments, flag_words
from engines._http import get
from engines._knobs import check_params
from engines._models_page import first_model
from engines._prometheus import Page, parse_page
from engines.base import Engine
from engines.errors import EngineError
from engines.launch.container import listen_address

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from engines._models_page import ModelCard
    from engines.failure import FailureRule
    from engines.knob import Knob
    from engines.launch.spec import LaunchRequest, LaunchSpec


class FlagServer(Engine):
    """A server whose settings are flags of its command.

    Attributes:
        flags: Its knobs, named as their flags.
        failures: What its log lines mean.
        own_options: Options that trtune gives, with their dashes.
        aliases: Other spellings of settings: option without dashes to the knob's name.
        negated: Whether a switch that is off is said as `--no-NAME`; else it is left out.
    """

    flags: ClassVar[tuple[Knob, ...]]
    failures: ClassVar[tuple[FailureRule, ...]]
    own_options: ClassVar[frozenset[str]]
    aliases: ClassVar[Mapping[str, str]] = {}
    negated: ClassVar[bool] = False

    @abstractmethod
    def words(self, request: LaunchRequest, host: str, port: int) -> tuple[str, ...]:
        """The command up to its settings: program, model, address."""

    def variables(self, host: str) -> Mapping[str, str]:
        """Variables it is started with, by the address it listens on."""
        return {}

    def knobs(self, version: str = "") -> tuple[Knob, ...]:
        """The knobs; the same for all versions known."""
        return self.flags

    def launch(self, request: LaunchRequest) -> LaunchSpec:
        """The command line; there are no files.

        Raises:
            BadConfiguration: If a setting is unknown or out of its domain, or an argument says what a setting says.
        """
        check_params(self.title, self.flags, request.params)
        check_arguments(request.arguments, request.params, self.own_options, self.aliases)
        host, port = listen_address(request)
        settings = flag_words(self.flags, request.params, negated=self.negated)
        return self.launch_spec(
            request, (*self.words(request, host, port), *settings), self.failures, self.variables(host)
        )


async def recognised(
    http: aiohttp.ClientSession, url: str, owner: str, prefix: str, title: str, article: str = "a"
) -> tuple[ModelCard, Page]:
    """The first model and the metrics page of a server, told by its name in the one or its prefix in the other.

    Raises:
        Unreachable: If nobody answers.
        EngineError: If it is another server.
    """
    card = await first_model(http, url)
    answer = await get(http, f"{url}/metrics")
    page = parse_page(answer.text(), answer.url) if answer.status == 200 else Page()
    if card.owner != owner and not any(name.startswith(prefix) for name in page.series):
        raise EngineError(f"{url} is not {article} {title} server: neither its models nor its metrics are {title}'s")
    return card, page
