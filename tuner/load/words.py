"""Words for prompts of known length: one word, one token.

Common short English words are single tokens in the vocabularies of all usual models. With a local `tokenizer.json`
only words that are in its vocabulary are used, which makes the count exact but for what the server itself adds (BOS,
chat template).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import orjson

from tuner.load.errors import BadWorkload

_TEXT = """
    the and for are but not you all any can had her was one our out day get has him his how man new now old
    see two way who boy did its let put say she too use about after again also back because been before
    being between both came come could down each even every find first from give good great hand have here
    high home house into just keep kind know large last left life light like line little long look made make
    many might more most much must name never next night number off often only open other over own page part
    people place plant play point read right same school seem sentence set should show side small some
    something sound spell still stop story study such take tell than that their them then there these they
    thing think this those three through time together took tree try turn under until very walk want water
    well went were what when where which while white why will with without word work world would write year
    young able above across act add air almost along always among animal answer area ask base become began
    begin behind best better black blue body book box bring build call car care carry change children city
    class clear close cold color common complete correct country course cover cross cut dark deep door draw
    drive dry early earth ease east eat end energy enough example eye face fact fall family far farm fast
    father feel feet field figure final fine fire fish fly follow food foot force form found four free
    friend front full game girl gold gone govern green ground group grow half happen hard head hear heat
    help hold horse hot hour hundred idea inch interest island king land language late laugh lead learn
    leave less letter list listen live low machine main map mark material mean measure men mile mind minute
    miss money moon morning mother mountain move music nature near need north note nothing notice object
    ocean order pass pattern perhaps person picture piece plain plan power press problem produce product
    pull question quick rain reach ready real reason record red remember rest river road rock room rule run
    sea second self serve seven shape ship short simple sing sit six size sleep slow snow song soon south
    special stand star start state stay step street strong sun sure surface system table teach ten test
    thought thousand top toward town travel true unit usual voice wait war warm watch week weight west wheel
    whole wind winter wonder wood yes yet
"""

COMMON_WORDS = tuple(_TEXT.split())
"""Words that are one token, with the blank before them, in every usual vocabulary."""

_PIECE = re.compile(r"[Ġ▁]([a-z]{2,12})")
_MIN_WORDS = 50
_MAX_FILE_BYTES = 256 * 1024 * 1024


def single_token_words(tokenizer: str) -> tuple[str, ...]:
    """Words that are one token for the tokenizer in a local `tokenizer.json` (or a folder that holds one), sorted.

    Raises:
        BadWorkload: If the file is missing, is no tokenizer file, or knows too few plain words.
    """
    path = Path(tokenizer)
    if path.is_dir():
        path = path / "tokenizer.json"
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise BadWorkload(f"tokenizer {path}: larger than {_MAX_FILE_BYTES} bytes")
        content = orjson.loads(path.read_bytes())
    except OSError as error:
        raise BadWorkload(f"tokenizer {path}: {error.strerror}") from None
    except orjson.JSONDecodeError:
        raise BadWorkload(f"tokenizer {path}: this is no tokenizer.json") from None
    words = sorted({match[1] for piece in _pieces(content) if (match := _PIECE.fullmatch(piece))})
    if len(words) < _MIN_WORDS:
        raise BadWorkload(f"tokenizer {path}: only {len(words)} plain words in its vocabulary, {_MIN_WORDS} are needed")
    return tuple(words)


def _pieces(content: Any) -> list[str]:
    """The vocabulary: a mapping in BPE and WordPiece files, a list of pairs in Unigram files."""
    model = content.get("model") if isinstance(content, dict) else None
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocabulary, dict):
        return list(vocabulary)
    if isinstance(vocabulary, list):
        return [entry[0] for entry in vocabulary if isinstance(entry, list) and entry and isinstance(entry[0], str)]
    return []
