"""Related-person marks (关联人员标注, Art. 32) as a granted reading shows them: never a number, no name in full."""

from typing import Final

from lanjie_matcher.identifiers import IdentifierError, parse
from lanjie_matcher.masking import masked_name

_MANY_DIGITS: Final = 5


def shown(mark: str) -> str:
    """Return a mark, ``part:name`` or ``part:kind:number``, for reading: masked for everybody (Art. 40)."""
    parts = [part.strip() for part in mark.replace("：", ":").split(":") if part.strip()]
    told: list[str] = []
    # Kind and number are found wherever they stand; what stands first says which part the person plays.
    for place in range(len(parts)):
        try:
            identifier = parse(":".join(parts[place:]))
        except IdentifierError:
            told.append(_word(parts[place], is_part=place == 0 and len(parts) > 1))
        else:
            return ":".join([*told, identifier.masked])
    return ":".join(told)


def _word(word: str, *, is_part: bool) -> str:
    if sum(character.isdigit() for character in word) >= _MANY_DIGITS:
        return "*" * len(word)
    return word if is_part else masked_name(word)
