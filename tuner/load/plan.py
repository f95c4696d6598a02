"""The requests of a level, one after the other, as the seed and the workload decide.

Conversation number n of a level is the same however many there are and whenever they are sent: they are drawn one
after the other, whole. Levels draw differently, so that one level's prompts are not in the prefix cache because of the
level before; shared prefixes are the same everywhere.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tuner.load.arrivals import arrival_times_s, trace_times_s
from tuner.load.datasets import Entry, read_dataset
from tuner.load.errors import BadWorkload
from tuner.load.http_request import RequestBuilder
from tuner.load.prompts import PromptMaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuner.load.prompts import Prompt
    from tuner.load.spec import Endpoint, Level, Workload

NO_SESSION = -1
NEVER_NS = -1
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """A request before it is sent.

    Attributes:
        index: Place in the level, from 0.
        session: Conversation, or -1 for a request on its own.
        turn: Place in the conversation.
        later_turns: How many turns of the conversation follow.
        due_ns: When it should leave, after the start (open loop), or -1.
        think_ns: Pause before it, after the turn before.
        cancel_after_ns: When the client gives up, after sending, or -1.
        isl_tokens: Prompt length as planned, or -1 where only the server can count it.
        osl_tokens: Answer length asked for.
        payload: The whole HTTP request; empty while the answer before it is not known.
    """

    index: int
    session: int
    turn: int
    later_turns: int
    due_ns: int
    think_ns: int
    cancel_after_ns: int
    isl_tokens: int
    osl_tokens: int
    payload: bytes

    @property
    def more(self) -> bool:
        """Whether another turn follows."""
        return self.later_turns > 0


@dataclass(slots=True)
class _Talk:
    """A conversation whose later turns wait for what the server says."""

    said: list[Prompt]
    asks: list[Prompt]
    turns: list[PlannedRequest]
    isl_tokens: int


class RequestPlan:
    """Gives out the requests of one level."""

    def __init__(self, workload: Workload, endpoint: Endpoint, level: Level) -> None:
        """Read the dataset and prepare the vocabulary.

        Raises:
            BadWorkload: If the dataset, the tokenizer or the endpoint cannot be used.
        """
        if endpoint.token_prompts and endpoint.api != "completions":
            raise BadWorkload(f"token_prompts needs api 'completions', not '{endpoint.api}'")
        self._workload = workload
        self._level = level
        self._salt = _level_salt(level)
        self._id_prefix = request_id_prefix(workload, level)
        self._prompts = PromptMaker(workload, endpoint)
        self._builder = RequestBuilder(endpoint, workload)
        self._entries: tuple[Entry, ...] = ()
        if workload.dataset is not None:
            self._entries = read_dataset(workload.dataset, workload.seed)
        self._rng = self._prompts.rng(self._salt)
        self._due_s = self._arrivals()
        self._conversations = 0
        self._requests = 0
        self._talks: dict[int, _Talk] = {}

    @property
    def requests(self) -> int:
        """Requests given out so far, later turns included."""
        return self._requests

    def next_conversation(self, max_turns: int) -> list[PlannedRequest]:
        """The next conversation, cut to at most `max_turns`; a request on its own is one of one turn.

        With planned history every turn has its payload. With the server's history only the first has; `continue_conversation` makes
        the others.
        """
        number = self._conversations
        self._conversations += 1
        entry = self._entries[number % len(self._entries)] if self._entries else None
        asks, osl_tokens, extra = self._content(entry)
        session = number if len(asks) > 1 else NO_SESSION
        due_ns = int(next(self._due_s) * _NS_PER_S) if self._due_s is not None else NEVER_NS
        planned = self._workload.turns.history == "planned"
        kept = min(len(asks), max_turns)
        said: list[Prompt] = []
        isl_tokens = 0
        turns: list[PlannedRequest] = []
        for turn, (prompt, length) in enumerate(zip(asks, osl_tokens, strict=True)):
            said.append(prompt)
            isl_tokens = isl_tokens + _tokens(prompt, entry) if isl_tokens >= 0 else -1
            index = self._requests + turn
            turns.append(
                PlannedRequest(
                    index=index,
                    session=session,
                    turn=turn,
                    later_turns=kept - turn - 1,
                    due_ns=due_ns if turn == 0 else NEVER_NS,
                    think_ns=self._think_ns() if turn else 0,
                    cancel_after_ns=self._cancel_after_ns(),
                    isl_tokens=isl_tokens,
                    osl_tokens=length,
                    payload=self._payload(index, length, said, extra) if planned or turn == 0 else b"",
                )
            )
            if planned and turn + 1 < len(asks):
                said.append(_recorded_answer(entry, turn) or self._prompts.fresh(self._rng, length))
                isl_tokens = isl_tokens + length if isl_tokens >= 0 else -1
        # Cut only now, so that what is drawn does not depend on how many are wanted.
        del turns[kept:]
        if not planned and kept > 1:
            self._talks[session] = _Talk([asks[0]], asks[1:kept], turns[1:], turns[0].isl_tokens)
        self._requests += kept
        return turns

    def continue_conversation(self, session: int, answer: str, answer_tokens: int) -> PlannedRequest | None:
        """The next turn of a conversation whose history is what the server said; None if it is over.

        Args:
            session: The conversation.
            answer: What the server answered last.
            answer_tokens: Length of it.
        """
        talk = self._talks.get(session)
        if talk is None or not talk.turns:
            return None
        draft, ask = talk.turns.pop(0), talk.asks.pop(0)
        talk.said += [answer, ask]
        if talk.isl_tokens >= 0:
            talk.isl_tokens += answer_tokens + _tokens(ask, None)
        if not talk.turns:
            del self._talks[session]
        return replace(
            draft, isl_tokens=talk.isl_tokens, payload=self._payload(draft.index, draft.osl_tokens, talk.said, {})
        )

    def abandon(self, session: int) -> None:
        """A conversation has failed: forget its later turns."""
        self._talks.pop(session, None)

    def _arrivals(self) -> Iterator[float] | None:
        if self._level.kind == "concurrency":
            return None
        workload = self._workload
        if workload.arrivals.pattern == "trace":
            stamps_s = [entry.timestamp_s for entry in self._entries]
            return trace_times_s(stamps_s, self._level.value, workload.arrivals.ramp_s)
        return arrival_times_s(workload.arrivals, self._level.value, workload.seed)

    def _content(self, entry: Entry | None) -> tuple[list[Prompt], list[int], dict[str, Any]]:
        """What the user says turn by turn, how long the answers shall be, and fields of the entry's own."""
        workload, rng = self._workload, self._rng
        if entry is None:
            turns = range(workload.turns.count.draw(rng))
            isl_tokens = [workload.isl.draw(rng) for _ in turns]
            osl_tokens = [workload.osl.draw(rng) for _ in turns]
            later = [self._prompts.fresh(rng, tokens) for tokens in isl_tokens[1:]]
            return [self._prompts.with_prefix(rng, isl_tokens[0]), *later], osl_tokens, {}
        lengths = [recorded or workload.osl.draw(rng) for recorded in entry.osl_tokens]
        if workload.dataset is not None and entry.isl_tokens:
            blocks = self._prompts.from_blocks(rng, entry.hash_ids, workload.dataset.block_tokens, entry.isl_tokens)
            return [blocks], lengths, entry.extra
        return list(entry.asks), lengths, entry.extra

    def _think_ns(self) -> int:
        turns = self._workload.turns
        drawn_s = self._rng.normal(turns.think_s, turns.think_std_s) if turns.think_std_s else turns.think_s
        return max(int(drawn_s * _NS_PER_S), 0)

    def _cancel_after_ns(self) -> int:
        cancel = self._workload.cancel
        if not cancel.share_ratio or self._rng.random() >= cancel.share_ratio:
            return NEVER_NS
        return int(self._rng.uniform(cancel.after_min_s, cancel.after_max_s) * _NS_PER_S)

    def _payload(self, index: int, osl_tokens: int, said: list[Prompt], extra: dict[str, Any]) -> bytes:
        return self._builder.build(said, osl_tokens, f"{self._id_prefix}{index}", extra)


def request_id_prefix(workload: Workload, level: Level) -> str:
    """What the X-Request-ID of every request of a level begins with; the request's index follows."""
    return f"trtune-{workload.seed}-{_level_salt(level):08x}-"


def _level_salt(level: Level) -> int:
    return zlib.crc32(str(level).encode())


def _tokens(prompt: Prompt, entry: Entry | None) -> int:
    """Planned length: known for what we made (one word is one token), unknown for what people wrote."""
    if not isinstance(prompt, str):
        return len(prompt)
    if entry is not None:
        return entry.isl_tokens or -1
    return prompt.count(" ") + 1


def _recorded_answer(entry: Entry | None, turn: int) -> Prompt | None:
    return entry.answers[turn] if entry is not None and turn < len(entry.answers) else None
