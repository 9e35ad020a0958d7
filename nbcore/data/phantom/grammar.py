"""What a language needs to report a chest radiograph."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nbcore.data.phantom.world import Finding


@dataclass(frozen=True)
class Grammar:
    """Phrases of one language; slots in braces are filled at random from `words(finding)`."""

    # finding or its kind, with ":bilateral" where that reads differently -> phrases; a phrase opens with its article
    # and a bar ("a|", "an|"), with "s|" where it is plural, with neither where it takes no article
    nouns: Mapping[str, Sequence[str]]
    words: Callable[[Finding], Mapping[str, Sequence[str]]]
    number: tuple[str, str]  # what {is} stands for beside a singular and a plural
    definite: Sequence[str]  # frames around {noun} or, with its article, {noun_a}
    hedged: Sequence[str]
    denying: Sequence[str]  # frames around a list of `denials`, the first of which governs {is}
    denials: Mapping[str, Sequence[str]]
    nor: str
    normal: Sequence[tuple[frozenset[str], Sequence[str]]]  # sentences true where these findings are absent
    clear: Sequence[str]  # impression without disease
    advice: Sequence[str]
    remarks: Mapping[str, Sequence[str]]
    complaints: Mapping[str, Sequence[str]]
    persons: Mapping[str, Sequence[str]]
    indications: Sequence[str]


def third(value: float) -> int:
    """0, 1 or 2: the lower, middle or upper third of the unit interval."""
    return min(int(3 * value), 2)


def frame(template: str, phrase: str, number: tuple[str, str]) -> str:
    """Put a marked noun phrase (see `Grammar.nouns`) into a frame."""
    mark, _, noun = phrase.rpartition("|")
    article = "" if mark in ("", "s") else f"{mark} "
    return template.format(noun=noun, noun_a=article + noun, **{"is": number[mark == "s"]})
