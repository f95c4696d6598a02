"""Knobs of speculative decoding (contract trtllm 5.5). Those of the built-engine backend are not among them."""

from __future__ import annotations

from engines._trtllm_versioned import VersionedKnob
from engines._trtllm_versions import LATE, V1_1, V1_2, V1_3
from engines.knob import Knob

METHOD = "speculative_config.decoding_type"
DRAFT_LENGTH = "speculative_config.max_draft_len"
DRAFT_LENGTHS = (1, 2, 3, 4, 5, 7, 10)

_OLD = (None, "NGram", "Eagle", "MTP", "DraftTarget", "AUTO")
"""Up to 1.2: Eagle stands for Eagle3 too, and the other spellings are an invalid decoding type."""

_V1_3 = (None, "NGram", "Eagle3", "MTP", "Draft_Target", "AUTO", "SA", "PARD", "DFlash", "DSpark")
_HELP = "Guess tokens and check them in one step; MTP needs a model with such layers, Eagle and Eagle3 a draft model."

EVERY_METHOD = (
    "NGram",
    "Eagle",
    "Eagle3",
    "MTP",
    "DraftTarget",
    "Draft_Target",
    "AUTO",
    "SA",
    "PARD",
    "DFlash",
    "DSpark",
)
WITH_DRAFT_MODEL = ("Eagle", "Eagle3", "DraftTarget", "Draft_Target", "PARD", "DFlash", "DSpark")


def _needs(allowed: tuple[str | None, ...], wanted: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The condition «one of these methods», as far as a version has them."""
    return {METHOD: tuple(method for method in wanted if method in allowed)}


def _draft_model(allowed: tuple[str | None, ...], key: str) -> Knob:
    return Knob(
        f"speculative_config.{key}", "text", None, requires=_needs(allowed, WITH_DRAFT_MODEL),
        help="Name or folder of the draft model.",
    )  # fmt: skip


def _max_concurrency(allowed: tuple[str | None, ...]) -> Knob:
    return Knob(
        "speculative_config.max_concurrency", "int", None, 1, 8192, requires=_needs(allowed, EVERY_METHOD),
        help="No guessing while more requests than this are in decode.",
    )  # fmt: skip


def _line(allowed: tuple[str | None, ...]) -> tuple[Knob, ...]:
    """What every version line has, with its own methods."""
    some = _needs(allowed, EVERY_METHOD)
    own_length = some if "SA" in allowed else _needs(allowed, tuple(each for each in EVERY_METHOD if each != "MTP"))
    ngram, mtp = _needs(allowed, ("NGram",)), _needs(allowed, ("MTP",))
    return (
        Knob(METHOD, "choice", None, choices=allowed, help=_HELP),
        Knob(DRAFT_LENGTH, "int", None, 1, 64, choices=DRAFT_LENGTHS, requires=own_length, help="Tokens guessed at once."),
        Knob("speculative_config.max_matching_ngram_size", "int", 2, 1, 32, requires=ngram,
             help="Longest run of tokens looked up."),
        Knob("speculative_config.is_keep_all", "bool", True, requires=ngram, help="Keep all matches of a pattern."),
        Knob("speculative_config.is_use_oldest", "bool", True, requires=ngram, help="Take the oldest match."),
        Knob("speculative_config.is_public_pool", "bool", True, requires=ngram, help="Share patterns over requests."),
        Knob("speculative_config.use_relaxed_acceptance_for_thinking", "bool", False, requires=mtp,
             help="Accept near misses while the model thinks; changes the answers."),
        Knob("speculative_config.relaxed_topk", "int", 1, 1, 64, requires=mtp, help="Near: among so many candidates."),
        Knob("speculative_config.relaxed_delta", "float", 0.0, 0.0, 1.0, requires=mtp,
             help="Near: within this probability."),
        Knob("speculative_config.use_mtp_vanilla", "bool", False, requires=mtp, help="One MTP layer per guessed token."),
    )  # fmt: skip


def _acceptance(allowed: tuple[str | None, ...], *, by_rate: bool) -> tuple[Knob, Knob]:
    """The window and the limit under which guessing is given up; up to 1.3.0rc20 the limit is a number of tokens."""
    window, limit = (
        ("acceptance_rate_window_size", "acceptance_rate_threshold")
        if by_rate
        else ("acceptance_window", "acceptance_length_threshold")
    )
    some = _needs(allowed, EVERY_METHOD)
    return (
        Knob(f"speculative_config.{window}", "int", None, 0, 100_000, requires=some,
             help="Requests over which acceptance is watched."),
        Knob(f"speculative_config.{limit}", "float", None, 0.0, 1.0 if by_rate else 64.0, requires=some,
             help=f"Below it guessing is turned off for good; {'a share' if by_rate else 'tokens for each step'}."),
    )  # fmt: skip


_RECENT = (
    Knob("speculative_config.use_rejection_sampling", "bool", False,
         requires=_needs(_V1_3, EVERY_METHOD), help="Keep the distribution of sampled answers exact."),
    Knob("speculative_config.use_dynamic_tree", "bool", False,
         requires=_needs(_V1_3, ("Eagle3",)), help="Guess a tree instead of a line."),
)  # fmt: skip

_OLD_MTP = Knob(
    "speculative_config.num_nextn_predict_layers", "int", 1, 1, 16, requires={METHOD: ("MTP",)},
    help="Tokens guessed by MTP; newer versions call it max_draft_len.",
)  # fmt: skip

_ONE_MODEL = Knob(
    "speculative_config.eagle3_one_model", "bool", True, requires={METHOD: ("Eagle",)},
    help="Draft and main model in one executor.",
)  # fmt: skip

SPECULATION_KNOBS: tuple[VersionedKnob, ...] = (
    *(VersionedKnob(knob, until=V1_3) for knob in _line(_OLD)),
    *(VersionedKnob(knob, since=V1_3) for knob in _line(_V1_3)),
    VersionedKnob(_draft_model(_OLD, "speculative_model_dir"), until=V1_2),
    VersionedKnob(_draft_model(_OLD, "speculative_model"), since=V1_2, until=V1_3),
    VersionedKnob(_draft_model(_V1_3, "speculative_model"), since=V1_3),
    VersionedKnob(_max_concurrency(_OLD), since=V1_1, until=V1_3),
    VersionedKnob(_max_concurrency(_V1_3), since=V1_3),
    *(VersionedKnob(knob, since=V1_2, until=V1_3) for knob in _acceptance(_OLD, by_rate=False)),
    *(VersionedKnob(knob, since=V1_3, until=LATE) for knob in _acceptance(_V1_3, by_rate=False)),
    *(VersionedKnob(knob, since=LATE) for knob in _acceptance(_V1_3, by_rate=True)),
    *(VersionedKnob(knob, since=V1_3) for knob in _RECENT),
    VersionedKnob(_OLD_MTP, until=V1_3),
    VersionedKnob(_ONE_MODEL, until=V1_3),
)
