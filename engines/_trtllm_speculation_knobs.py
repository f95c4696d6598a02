"""Knobs of speculative decoding (contract trtllm 5.5). Those of the built-engine backend are not among them."""

from __future__ import annotations

from engines._trtllm_versioned import VersionedKnob
from engines._trtllm_versions import V1_2, V1_3
from engines.knob import Knob

METHOD = "speculative_config.decoding_type"
DRAFT_LENGTH = "speculative_config.max_draft_len"
DRAFT_LENGTHS = (1, 2, 3, 4, 5, 7, 10)

_OLD = (None, "NGram", "Eagle", "MTP", "Draft_Target", "AUTO")
_V1_2 = (None, "NGram", "Eagle3", "MTP", "Draft_Target", "AUTO")
_V1_3 = (*_V1_2, "SA", "PARD", "DFlash", "DSpark")
_HELP = "Guess tokens and check them in one step; MTP needs a model with such layers, Eagle3 a draft model."

EVERY_METHOD = ("NGram", "Eagle", "Eagle3", "MTP", "Draft_Target", "AUTO", "SA", "PARD", "DFlash", "DSpark")
WITH_DRAFT_MODEL = ("Eagle", "Eagle3", "Draft_Target", "PARD", "DFlash", "DSpark")


def _needs(allowed: tuple[str | None, ...], wanted: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The condition «one of these methods», as far as a version has them."""
    return {METHOD: tuple(method for method in wanted if method in allowed)}


def _line(allowed: tuple[str | None, ...]) -> tuple[Knob, ...]:
    """What every version line has, with its own methods."""
    some = _needs(allowed, EVERY_METHOD)
    own_length = some if "SA" in allowed else _needs(allowed, tuple(each for each in EVERY_METHOD if each != "MTP"))
    ngram, mtp = _needs(allowed, ("NGram",)), _needs(allowed, ("MTP",))
    draft_key = "speculative_model_dir" if "Eagle" in allowed else "speculative_model"
    return (
        Knob(METHOD, "choice", None, choices=allowed, help=_HELP),
        Knob(DRAFT_LENGTH, "int", None, 1, 64, choices=DRAFT_LENGTHS, requires=own_length, help="Tokens guessed at once."),
        Knob(f"speculative_config.{draft_key}", "text", None, requires=_needs(allowed, WITH_DRAFT_MODEL),
             help="Name or folder of the draft model."),
        Knob("speculative_config.max_concurrency", "int", None, 1, 8192, requires=some,
             help="No guessing while more requests than this are in decode."),
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


_RECENT = (
    Knob("speculative_config.acceptance_rate_window_size", "int", None, 1, 100_000,
         requires=_needs(_V1_3, EVERY_METHOD), help="Requests over which acceptance is watched."),
    Knob("speculative_config.acceptance_rate_threshold", "float", None, 0.0, 1.0,
         requires=_needs(_V1_3, EVERY_METHOD), help="Below it guessing is turned off for good."),
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
    "speculative_config.eagle3_one_model", "bool", True, requires={METHOD: ("Eagle3",)},
    help="Draft and main model in one executor.",
)  # fmt: skip

SPECULATION_KNOBS: tuple[VersionedKnob, ...] = (
    *(VersionedKnob(knob, until=V1_2) for knob in _line(_OLD)),
    *(VersionedKnob(knob, since=V1_2, until=V1_3) for knob in _line(_V1_2)),
    *(VersionedKnob(knob, since=V1_3) for knob in _line(_V1_3)),
    *(VersionedKnob(knob, since=V1_3) for knob in _RECENT),
    VersionedKnob(_OLD_MTP, until=V1_3),
    VersionedKnob(_ONE_MODEL, since=V1_2, until=V1_3),
)
