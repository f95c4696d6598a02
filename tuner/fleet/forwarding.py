"""A trial on another host, written into the one session: its recorder forwards, and the driver merges.

The other host records into a `ForwardingRecorder`, which keeps every call with the time at which it happened there. The
driver takes the calls in batches and makes them on the session's own recorder, times moved by the offset between the two
clocks (`ClockLink`), ids exchanged for those of the session. So a trial looks the same in the session wherever it ran.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessions.clock import SessionClock
    from sessions.recorder import Recorder
    from sessions.records import FailureRecord, Metrics, Params
    from sessions.requests import RequestTable


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a recorder, made on another host.

    Attributes:
        t_ns: When, in that host's session time.
        name: The recorder's method.
        args: Its arguments by name.
        gives: Identity that the other host gave to what the call made (a source, a level); 0: it made nothing.
    """

    t_ns: int
    name: str
    args: Mapping[str, Any]
    gives: int = 0


@dataclass(slots=True)
class ForwardingRecorder:
    """What a trial records on another host. Holds the part of `sessions.recorder.Recorder` that a trial needs.

    Attributes:
        clock: This host's session time.
        number: Number of the trial in the driver's session.
        lane: Added to the names of sources, so that those of several hosts stay apart.
    """

    clock: SessionClock
    number: int
    lane: str
    _calls: list[Call] = field(default_factory=list)
    _given: int = 0

    def take(self) -> list[Call]:
        """The calls since the last time, oldest first."""
        calls, self._calls = self._calls, []
        return calls

    def add_source(self, kind: str, name: str, info: Mapping[str, Any]) -> int:
        """As the recorder's."""
        return self._make("add_source", kind=kind, name=f"{self.lane}/{name}", info={**info, "lane": self.lane})

    def add_sample(self, source: int, t_ns: int, values: Sequence[float]) -> None:
        """As the recorder's."""
        self._forward("add_sample", source=source, t_ns=t_ns, values=tuple(values))

    def add_requests(self, level: int, table: RequestTable) -> None:
        """As the recorder's."""
        self._forward("add_requests", level=level, table=table)

    def log(self, stream: str, level: str, text: str) -> None:
        """As the recorder's."""
        self._forward("log", stream=stream, level=level, text=f"{self.lane}: {text}")

    def event(self, kind: str, text: str, *, trial: int | None = None, data: Mapping[str, Any] | None = None) -> None:
        """As the recorder's."""
        self._forward("event", kind=kind, text=text, trial=trial, data=data)

    def start_trial(self, kind: str, params: Params) -> int:
        """The driver has begun the trial already: its number."""
        return self.number

    def update_trial(
        self,
        number: int,
        *,
        effective: Params | None = None,
        launch: Mapping[str, Any] | None = None,
        ready_s: float | None = None,
    ) -> None:
        """As the recorder's."""
        self._forward("update_trial", number=number, effective=effective, launch=launch, ready_s=ready_s)

    def end_trial(
        self,
        number: int,
        state: str,
        *,
        score: float | None = None,
        feasible: bool | None = None,
        result: Metrics | None = None,
        failure: FailureRecord | None = None,
    ) -> None:
        """As the recorder's."""
        self._forward(
            "end_trial", number=number, state=state, score=score, feasible=feasible, result=result, failure=failure
        )

    def start_level(self, trial: int, kind: str, value: float) -> int:
        """As the recorder's."""
        return self._make("start_level", trial=trial, kind=kind, value=value)

    def end_level(
        self,
        level: int,
        state: str,
        *,
        window_ns: tuple[int, int] | None = None,
        result: Metrics | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """As the recorder's."""
        self._forward("end_level", level=level, state=state, window_ns=window_ns, result=result, notes=tuple(notes))

    def start_phase(self, trial: int, name: str, level: int | None = None) -> None:
        """As the recorder's."""
        self._forward("start_phase", trial=trial, name=name, level=level)

    def end_phase(self, trial: int) -> None:
        """As the recorder's."""
        self._forward("end_phase", trial=trial)

    def _forward(self, method: str, /, **args: Any) -> None:
        self._calls.append(Call(self.clock.now(), method, args))

    def _make(self, method: str, /, **args: Any) -> int:
        self._given += 1
        self._calls.append(Call(self.clock.now(), method, args, self._given))
        return self._given


FORWARDED: Final = frozenset(
    {
        "add_source",
        "add_sample",
        "add_requests",
        "log",
        "event",
        "update_trial",
        "end_trial",
        "start_level",
        "end_level",
        "start_phase",
        "end_phase",
    }
)
"""What another host may ask of the session's recorder; nothing else is done for it."""

_IDENTITIES: Final = {
    "add_sample": "source",
    "add_requests": "level",
    "end_level": "level",
    "start_phase": "level",
}
"""The argument of a call that is an identity given by the other host."""


@dataclass(slots=True)
class Merge:
    """Makes the calls of one trial on another host on the session's recorder.

    Attributes:
        recorder: The session's.
        offset_ns: Session time minus the other host's session time.
        number: The trial they may be about.
    """

    recorder: Recorder
    offset_ns: int
    number: int
    _ids: dict[int, int] = field(default_factory=dict)

    def apply(self, calls: Sequence[Call]) -> None:
        """Make the calls, oldest first.

        Raises:
            ValueError: If a call is none that a trial makes, or about another trial.
        """
        for call in calls:
            if call.name not in FORWARDED:
                raise ValueError(f"a host asked to record {call.name!r:.40}, which no trial does")
            with self.recorder.at(call.t_ns + self.offset_ns):
                made = getattr(self.recorder, call.name)(**self._translated(call))
            if call.gives:
                self._ids[call.gives] = made

    def _translated(self, call: Call) -> dict[str, Any]:
        args = dict(call.args)
        about = args.get("number", args.get("trial"))
        if about is not None and about != self.number:
            raise ValueError(f"trial {self.number} on another host spoke about trial {about!r:.20}")
        identity = _IDENTITIES.get(call.name)
        if identity is not None and args[identity] is not None:
            args[identity] = self._ids[args[identity]]
        if "t_ns" in args:
            args["t_ns"] += self.offset_ns
        if "table" in args:
            args["table"] = args["table"].shifted(self.offset_ns)
        if args.get("window_ns") is not None:
            start_ns, end_ns = args["window_ns"]
            args["window_ns"] = (start_ns + self.offset_ns, end_ns + self.offset_ns)
        return args


@dataclass(frozen=True, slots=True)
class ClockLink:
    """How another host's session time relates to ours.

    Attributes:
        offset_ns: Our session time minus theirs.
        error_ns: The offset is right to within this: half of the quickest exchange.
    """

    offset_ns: int
    error_ns: int

    @classmethod
    def best_of(cls, exchanges: Sequence[tuple[int, int, int]]) -> ClockLink:
        """From exchanges of (sent, theirs, received): the quickest one tells most (as NTP does, RFC 5905 section 8).

        Args:
            exchanges: Our session time when we asked, theirs in the answer, ours when it came; in ns.
        """
        sent_ns, theirs_ns, received_ns = min(exchanges, key=lambda each: each[2] - each[0])
        return cls((sent_ns + received_ns) // 2 - theirs_ns, (received_ns - sent_ns + 1) // 2)
