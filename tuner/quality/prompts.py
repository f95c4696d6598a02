"""The fixed set of prompts: short tasks of many kinds, so that a model that has lost something loses it on some of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from tuner.errors import BadPlan

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS: Final = (
    "Question: A train leaves at 9:40 and arrives at 13:05. How long does the journey take?\nAnswer:",
    "Question: What is 17 times 23? Show each step.\nAnswer:",
    "Question: If 3 machines make 12 parts in 4 minutes, how many parts do 5 machines make in 10 minutes?\nAnswer:",
    "Question: Is 221 a prime number? Explain.\nAnswer:",
    'def fibonacci(n: int) -> int:\n    """Return the n-th Fibonacci number, iteratively."""\n',
    "-- Total revenue per country in 2023, highest first\nSELECT",
    "Write a regular expression that matches an ISO date such as 2024-02-29, and explain its parts.\n",
    "The following Python function has a bug. Find it.\n\ndef mean(xs):\n    return sum(xs) / (len(xs) - 1)\n\nThe bug:",
    "The capital of Australia is",
    "Water boils at a lower temperature on a mountain because",
    "In 1969, the first human beings to walk on the Moon were",
    "The chemical symbol of gold is Au, of silver Ag, of iron",
    "Translate into French: The meeting has been moved to Thursday afternoon.\nFrench:",
    "Translate into German: Could you please send me the report by tomorrow morning?\nGerman:",
    "Translate into Spanish: She had never seen the sea before.\nSpanish:",
    "Summarise in one sentence: Bees communicate the direction and the distance of flowers to each other by a dance. Its angle"
    " to the vertical tells the direction relative to the sun, and its length the distance.\nSummary:",
    "Extract the name, the date and the amount as JSON: Invoice from Miller Ltd., dated 3 May 2024, over 1,249.50 euros.\nJSON:",
    "List the planets of the solar system in order of their distance from the sun, as a numbered list:\n1.",
    "Is the sentiment of this review positive or negative? 'The battery died after a week and nobody answered my mails.'"
    "\nSentiment:",
    "Alice is taller than Bob. Carol is shorter than Bob. Who is the shortest, and why?\nAnswer:",
    "All roses are flowers. Some flowers fade quickly. Does it follow that some roses fade quickly? Explain.\nAnswer:",
    "Continue the story in plain words: The lighthouse keeper had not spoken to anyone for eleven days when",
    "Explain to a child why the sky is blue.\n",
    "Reply politely to this mail and decline: 'Could you present your results to our team this Friday at 8 am?'\nReply:",
)
"""They need no knowledge that a small model lacks altogether: what counts is whether two variants go on alike."""


def prompt_set(path: Path | None) -> tuple[str, ...]:
    """The prompts to ask: our own, or those of a text file with blank lines between them.

    Raises:
        BadPlan: If the file cannot be read, or holds none.
    """
    if path is None:
        return PROMPTS
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPlan(f"quality.prompts: {path} cannot be read ({error})") from error
    prompts = tuple(part.strip("\n") for part in text.split("\n\n") if part.strip())
    if not prompts:
        raise BadPlan(f"quality.prompts: {path} holds no prompt: write them with blank lines between")
    return prompts


def digest_of(prompts: tuple[str, ...]) -> str:
    """A short name of a set of prompts: answers to another set cannot be compared."""
    return hashlib.sha256("\0".join(prompts).encode()).hexdigest()[:16]
