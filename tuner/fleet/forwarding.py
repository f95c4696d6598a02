"""A trial on another host, written into the one session: its recorder forwards, and the driver merges.

The other host records into a `ForwardingRecorder`, which keeps every call with the time at which it happened there. The
driver takes the calls in batches and makes them on the session's own recorder, times moved by the offset between the two
clocks (`ClockLink`), ids exchanged for those of the session. So a trial looks the same in the session wherever it ran.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from sessions.lanes import PLACED
from sessions.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sessions.clock import SessionClock
    from sessions.records import Params
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


class ForwardingRecorder(Recorder):
    """Records a trial into a session file of this host's own, and keeps every call to be told to the driver."""

    _trial: int
    _calls: list[Call]

    @classmethod
    def begin(cls, path: Path, number: int, clock: SessionClock) -> Self:
        """Begin in a new file.

        Args:
            path: Where; a folder that goes away with the trial.
            number: Number of the trial in the driver's session.
            clock: Session time of this host; the driver knows its offset.
        """
        recorder = cls.create(path, {}, clock=clock)
        recorder._trial, recorder._calls = number, []
        return recorder

    def take(self) -> list[Call]:
        """The calls since the last time, oldest first."""
        calls, self._calls = self._calls, []
        return calls

    def add_source(self, kind: str, name: str, info: Mapping[str, Any]) -> int:
        """As the recorder's."""
        made = super().add_source(kind, name, info)
        return self._forward("add_source", made, kind=kind, name=name, info=info)

    def add_sample(self, source: int, t_ns: int, values: Sequence[float]) -> None:
        """As the recorder's."""
        super().add_sample(source, t_ns, values)
        self._forward("add_sample", source=source, t_ns=t_ns, values=tuple(values))

    def add_requests(self, level: int, table: RequestTable) -> None:
        """As the recorder's."""
        super().add_requests(level, table)
        self._forward("add_requests", level=level, table=table)

    def log(self, stream: str, level: str, text: str) -> None:
        """As the recorder's."""
        super().log(stream, level, text)
        self._forward("log", stream=stream, level=level, text=text)

    def event(self, kind: str, text: str, *, trial: int | None = None, data: Mapping[str, Any] | None = None) -> None:
        """As the recorder's; where the trial runs the driver tells itself, and more of it."""
        if kind == PLACED:
            return
        super().event(kind, text, trial=trial, data=data)
        self._forward("event", kind=kind, text=text, trial=trial, data=data)

    def start_trial(self, kind: str, params: Params, number: int | None = None) -> int:
        """The driver has begun the trial already: it is this one."""
        return super().start_trial(kind, params, self._trial)

    def update_trial(self, number: int, **known: Any) -> None:
        """As the recorder's."""
        super().update_trial(number, **known)
        self._forward("update_trial", number=number, **known)

    def end_trial(self, number: int, state: str, **known: Any) -> None:
        """As the recorder's."""
        super().end_trial(number, state, **known)
        self._forward("end_trial", number=number, state=state, **known)

    def start_level(self, trial: int, kind: str, value: float) -> int:
        """As the recorder's."""
        made = super().start_level(trial, kind, value)
        return self._forward("start_level", made, trial=trial, kind=kind, value=value)

    def end_level(self, level: int, state: str, **known: Any) -> None:
        """As the recorder's."""
        super().end_level(level, state, **known)
        self._forward("end_level", level=level, state=state, **known)

    def start_phase(self, trial: int, name: str, level: int | None = None) -> None:
        """As the recorder's."""
        super().start_phase(trial, name, level)
        self._forward("start_phase", trial=trial, name=name, level=level)

    def end_phase(self, trial: int) -> None:
        """As the recorder's."""
        super().end_phase(trial)
        self._forward("end_phase", trial=trial)

    def _forward(self, method: str, made: int = 0, /, **args: Any) -> int:
        self._calls.append(Call(self.clock.now(), method, args, made))
        return made


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

_IDENTITIES: Final[Mapping[str, str]] = {
    "add_sample": "source",
    "add_requests": "level",
    "end_level": "level",
    "start_phase": "level",
}
"""The argument of a call that is an identity given by the other host."""

_MADE: Final = {"add_source": "source", "start_level": "level"}
"""What a call makes there."""


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
    _ids: dict[tuple[str, int], int] = field(default_factory=dict)

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
                self._ids[_MADE[call.name], call.gives] = made

    def _translated(self, call: Call) -> dict[str, Any]:
        args = dict(call.args)
        about = args.get("number", args.get("trial"))
        if about is not None and about != self.number:
            raise ValueError(f"trial {self.number} on another host spoke about trial {about!r:.20}")
        identity = _IDENTITIES.get(call.name)
        if identity is not None and args[identity] is not None:
            args[identity] = self._ids[identity, args[identity]]
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
