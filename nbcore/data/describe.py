"""What the manifests say, for people: one in full, as `nbcore data show` prints it, or all in a table."""

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from nbcore.data.manifest import Counts, Draw, Manifest, SplitRule, list_manifests, load_manifest

WIDTH = 100  # columns
_NAMES = 14  # characters of the column of names
_POLICIES = {"zero": "negative", "one": "positive", "ignore": "left out"}
_PAPERS = {"mgca": "MGCA", "mflag": "M-FLAG", "med_unic": "Med-UniC", "meduna": "MedUnA", "kmat": "K-MaT"}


def describe(manifest: Manifest) -> str:
    """The manifest as text of at most WIDTH columns (an address or a name that is longer stays whole)."""
    parts = [
        f"{manifest.name}: {manifest.title}",
        _table(
            {
                "called": manifest.short_title,
                "part of": manifest.part_of and f"{manifest.part_of.data_set}, its {manifest.part_of.split} split",
                "version": manifest.version,
                "access": manifest.access,
                "licence": manifest.licence,
                "homepage": manifest.homepage,
                "citation": manifest.citation,
                "used by": "; ".join(f"{_PAPERS.get(use.paper, use.paper)}: {use.where}" for use in manifest.used_by),
            }
        ),
        _headed("how to get it", _wrapped(manifest.how_to_get)),
        _headed("plain downloads", _table({each.file: each.url for each in manifest.downloads})),
        _headed("the root is known by one of these", expected_tree(manifest.layout.marks)),
        _headed("what the reader looks for", _table(manifest.layout.model_dump(mode="json"))),
        _headed("classes", _wrapped(_classes(manifest))),
        _headed("uncertain labels", _table({name: _policy(rule) for name, rule in manifest.uncertain.items()})),
        _headed("a complete copy holds", _table(_counts(manifest.counts))),
        _headed("splits", "\n".join(_wrapped(line) for line in _splits(manifest.split))),
        _headed("notes", _wrapped(manifest.notes)),
        _headed("questions and answers", "\n\n".join(_asked(*pair) for pair in manifest.questions.items())),
    ]
    return "\n\n".join(filter(None, parts))


def expected_tree(paths: Iterable[str]) -> str:
    """POSIX paths as an indented tree: ["a/b", "a/c"] -> "  ROOT/", "    a/", "      b", "      c"; "." is the root."""
    tree: dict[str, Any] = {}
    for path in paths:
        place = tree
        for part in path.removeprefix("./").split("/"):
            place = place.setdefault(part, {})

    def lines(inside: Mapping[str, Any], depth: int) -> list[str]:
        found = []
        for name, below in inside.items():
            found += [f"{'  ' * depth}{name}{'/' if below else ''}", *lines(below, depth + 1)]
        return found

    return "\n".join(["  ROOT/", *lines(tree, 2)])


def overview() -> str:
    """A Markdown table of all data sets: name, title, access, licence, images, who uses it."""
    rows = ["| data set | title | access | licence | images | used by |", "|---|---|---|---|---|---|"]
    for name in list_manifests():
        manifest = load_manifest(name)
        papers = ", ".join(dict.fromkeys(_PAPERS.get(use.paper, use.paper) for use in manifest.used_by))
        cells = [f"[{manifest.title}]({manifest.homepage})", manifest.access, manifest.licence.strip()]
        cells += [_shown(manifest.counts.images), papers]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows)


def _headed(heading: str, text: str) -> str:
    return f"{heading.upper()}\n{text}" if text else ""


def _asked(question: str, answer: str) -> str:
    return f"{_wrapped(question, indent=2)}\n{_wrapped(answer, indent=6)}"


def _wrapped(text: str, indent: int = 2, first: str | None = None) -> str:
    """The words of `text` in lines of WIDTH columns, never broken inside, behind `first` or `indent` blanks."""
    margin = " " * indent
    return textwrap.fill(
        " ".join(text.split()),
        WIDTH,
        initial_indent=margin if first is None else first,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(values: Mapping[str, Any]) -> str:
    """A line a name, its value beside it; values that hold nothing are left out."""
    shown = {name: _shown(value) for name, value in values.items()}
    width = 2 + max(_NAMES, *(len(name) + 2 for name in shown)) if shown else 0
    return "\n".join(
        _wrapped(value, indent=width, first=f"  {name:<{width - 2}}") for name, value in shown.items() if value
    )


def _shown(value: Any) -> str:
    """Numbers in groups of three, lists with commas, mappings as "name: value" with semicolons."""
    if isinstance(value, Mapping):
        inner = {name: _shown(part) for name, part in value.items()}
        nested = any(isinstance(part, Mapping | list) for part in value.values())
        return ("; " if nested else ", ").join(f"{name}: {part}" for name, part in inner.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def _classes(manifest: Manifest) -> str:
    each = "each image has exactly one" if manifest.exclusive else "an image may have several, or none"
    said = f"; in sentences: {_shown(dict(manifest.phrases))}" if manifest.phrases else ""
    return f"{', '.join(manifest.classes)} ({each}{said})"


def _policy(rule: str | Mapping[str, int]) -> str:
    if isinstance(rule, str):
        return _POLICIES[rule]
    return ", ".join(f"{name} {_POLICIES['one' if value else 'zero']}" for name, value in rule.items())


def _counts(counts: Counts) -> dict[str, Any]:
    """What it counts, a line for each list of splits."""
    told = counts.model_dump(mode="json")
    names = {"default": "splits", "test_list": "with the list"}
    return {**told, "splits": None, **{names[name]: parts for name, parts in told["splits"].items()}}


def _splits(rule: SplitRule) -> list[str]:
    """A sentence for each thing the rule says."""
    files = "the owner's files"
    official = f"{files} say which images are for what" if rule.official else f"{files} decide nothing"
    lines = [f"{official[0].upper()}{official[1:]}."]
    if rule.test_list:
        lines = [
            f"Where {rule.test_list.file} lies in the root, the images of the patients it lists are the test images, "
            f"whatever else is said; without it, {official}."
        ]
    for part, draw in {"test": rule.test, "valid": rule.valid}.items():
        if draw:
            lines.append(f"Where no image is {part} by that, {_drawn(draw)}.")
    if rule.test_among:
        among = f"{rule.test_among.column} = {rule.test_among.value}"
        lines.append(f"Test images are drawn among the patients all of whose images have {among}.")
    if rule.test or rule.valid:
        lines.append(f"Whole patients are drawn, with seed {rule.seed}.")
    return lines


def _drawn(draw: Draw) -> str:
    """ "1,000 images are drawn, or 10 % of those to draw from where that is fewer"."""
    share = "" if draw.fraction is None else f"{100 * draw.fraction:.4g} % of those to draw from"
    if draw.images is None:
        return f"{share} are drawn"
    return f"{draw.images:,} images are drawn" + (f", or {share} where that is fewer" if share else "")
