"""Characters from outside the language that stand for some of its own."""

import unicodedata

_LOOKALIKES = {
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b«»", '"'),  # curled and angled quotes
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),  # hyphens, dashes, the minus sign
    **dict.fromkeys("×·\u2217\u2219\u22c5", "*"),  # signs of multiplication
    **dict.fromkeys("÷\u2044\u2215", "/"),  # signs of division
    **dict.fromkeys("\u2025\u2026", ".."),  # leaders
    "≤": "<=",
    "≥": ">=",
    "ß": "ss",
}
_CONTROLS = {"\0": "null byte", "\r": "carriage return", "\f": "form feed", "\v": "vertical tab", "\x1b": "escape"}


def plain(text: str) -> str | None:
    """What is written for a text in the characters of the language, None where that is not known."""
    written = "".join(map(_plain_character, text))
    return written if written.isascii() else None


def shortened(text: str) -> str:
    """A text as it is quoted in a message."""
    return text if len(text) <= 24 else text[:20] + "…"


def describe(character: str) -> str:
    """`no-break space (U+00A0)`: what it is, for one that may be invisible."""
    name = _CONTROLS.get(character) or unicodedata.name(character, "control character").lower()
    return f"{name} (U+{ord(character):04X})"


def _plain_character(character: str) -> str:
    if character.isascii() or character in _LOOKALIKES:
        return _LOOKALIKES.get(character, character)
    match unicodedata.category(character):
        case "Zs":
            return " "
        case "Zl" | "Zp":
            return "\n"
        case "Cf":
            return ""
        case "Nd":
            return str(unicodedata.digit(character))
    letters = unicodedata.normalize("NFKD", character)  # full-width forms, ½, letters with accents
    return "".join(_LOOKALIKES.get(letter, letter) for letter in letters if not unicodedata.combining(letter))
