"""What stands beside a picture: its title, in the room there is, and a caption that names data and seed."""

import re
import textwrap
from collections.abc import Sequence

NO_CLASS = "none of its classes"  # the title of an image without a positive label
_NAMED = {"phantom": r"\bphantoms?\b", "real": r"\breal data\b"}


def two_lines(title: str, width: int) -> str:
    """A title on at most two lines of `width` characters; what does not fit is left out, "..."."""
    return "\n".join(textwrap.wrap(title.replace("_", " "), width, max_lines=2, placeholder=" ..."))


def told_source(caption: str, source: str, seeds: Sequence[int]) -> str:
    """A caption that says whether its data are real or phantoms, and the seed: what it does not say is added.

    Without a word of several seeds in it, a figure shows the first.

    Args:
        caption: one sentence or more; a last full stop may be missing.
        source: "phantom" or "real".
        seeds: of the run.
    """
    missing = []
    if not re.search(_NAMED[source], caption, re.IGNORECASE):
        missing.append(f"{source} data")
    if not re.search(r"\bseeds? \d", caption, re.IGNORECASE):
        shown = seeds if re.search(r"\bseeds\b", caption) else seeds[:1]
        missing.append(f"seed{'s' if len(shown) > 1 else ''} {', '.join(map(str, shown))}")
    if not missing:
        return caption
    told = ", ".join(missing)
    return f"{caption.rstrip().removesuffix('.')}. {told[0].upper()}{told[1:]}."
