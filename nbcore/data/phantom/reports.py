"""The radiologist's report of a phantom study, in English or Spanish, from the same latent state as its picture.

What is said (mentioned, hedged, left out, negated) is decided once for both languages; how it is said is each
language's own (`reports_en`, `reports_es`). A finding that is present is never denied, one that is absent never
claimed; only subtle findings may go unmentioned, and never the only one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nbcore.data.phantom import reports_en, reports_es
from nbcore.data.phantom.grammar import Grammar, frame
from nbcore.data.phantom.world import ChestStudy, Finding
from nbcore.errors import UsageError

GRAMMARS: Mapping[str, Grammar] = {"en": reports_en.GRAMMAR, "es": reports_es.GRAMMAR}
_DENIABLE = {  # denied only where none of these is present
    "consolidation": {"consolidation", "covid", "pneumonia", "tuberculosis"},
    "effusion": {"effusion"},
    "pneumothorax": {"pneumothorax"},
    "edema": {"edema"},
    "nodule": {"nodule", "mass", "tuberculosis"},
    "fracture": {"fracture"},
}
_COMPLAINTS = {
    "cardiomegaly": "heart", "edema": "heart", "effusion": "heart", "pneumonia": "infection",
    "consolidation": "infection", "infiltration": "infection", "covid": "infection", "tuberculosis": "infection",
    "emphysema": "smoking", "nodule": "smoking", "mass": "smoking", "fibrosis": "smoking", "pneumothorax": "trauma",
    "fracture": "trauma", "support_devices": "control",
}  # fmt: skip
_FAINT = 0.62  # visibility below which a finding may be doubted or missed
_IMPRESSION_LINES = 4
_CERTAIN = frozenset({"support_devices", "foreign_object"})  # metal is never in doubt


@dataclass(frozen=True)
class Report:
    """Three sections without their headers; any but `impression` may be empty."""

    indication: str
    findings: str
    impression: str


@dataclass(frozen=True)
class _Plan:
    """What both languages say."""

    said: tuple[tuple[Finding, bool], ...]  # finding, hedged
    denied: tuple[str, ...]
    complaint: str
    remarks: tuple[str, ...]  # keys of Grammar.remarks
    sections: tuple[bool, bool]  # indication, findings present


def write(study: ChestStudy, language: str) -> Report:
    """The report of a study; raises UsageError for a language other than "en" and "es"."""
    if language not in GRAMMARS:
        raise UsageError(f"no phantom reports in language {language!r}: choose one of {', '.join(GRAMMARS)}")
    grammar, plan = GRAMMARS[language], _plan(study, np.random.default_rng((study.seed, 1)))
    writer = _Writer(grammar, np.random.default_rng((study.seed, 2, ord(language[0]))))
    indication, findings = plan.sections
    return Report(
        indication=writer.indication(study, plan) if indication else "",
        findings=writer.findings(study, plan) if findings else "",
        impression=writer.impression(plan),
    )


def _plan(study: ChestStudy, generator: np.random.Generator) -> _Plan:
    ordered = sorted(study.findings, key=lambda finding: -finding.visibility)
    said = []
    for finding in ordered:
        faint = finding.visibility < _FAINT
        if said and faint and generator.random() < 0.15:
            continue
        doubt = 0.45 if faint else 0.06
        said.append((finding, finding.name not in _CERTAIN and bool(generator.random() < doubt)))
    shown = {name for finding in study.findings for name in finding.shows}
    absent = [name for name, contrary in _DENIABLE.items() if not contrary & shown]
    denied = [name for name in absent if generator.random() < 0.55]
    complaints = sorted({_COMPLAINTS[f.name] for f in study.findings if f.name in _COMPLAINTS})
    telling = complaints and generator.random() < 0.6
    return _Plan(
        said=tuple(said),
        denied=tuple(denied),
        complaint=str(generator.choice(complaints if telling else ["general"])),
        remarks=tuple(_remarks(study, generator)),
        sections=(bool(generator.random() < 0.9), bool(generator.random() < 0.94) or len(said) > _IMPRESSION_LINES),
    )


def _remarks(study: ChestStudy, generator: np.random.Generator) -> list[str]:
    """Things said beside the findings: technique, comparison, age."""
    applicable = {
        study.view: 0.35,
        "previous" if study.study else "first": 0.3,
        "inspiration": 0.7 * (study.acquisition.inspiration < 0.4),
        "rotation": 0.6 * (abs(study.acquisition.turn) > 0.06),
        "spine": 0.35 * (study.age > 55),
        "aorta": 0.35 * (study.age > 60),
    }
    return [key for key, chance in applicable.items() if generator.random() < chance]


@dataclass(frozen=True)
class _Writer:
    """Says a plan in one language."""

    grammar: Grammar
    generator: np.random.Generator

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.generator.integers(len(options)))]

    def noun(self, finding: Finding) -> str:
        """A noun phrase for a finding: with its side, place and degree where the phrase has room for them."""
        key = finding.kind if finding.kind in self.grammar.nouns else finding.name
        both = f"{key}:bilateral"
        phrases = self.grammar.nouns[both if finding.side == "bilateral" and both in self.grammar.nouns else key]
        words = {slot: self.pick(options) for slot, options in self.grammar.words(finding).items()}
        return self.pick(phrases).format(**words)

    def statement(self, finding: Finding, hedged: bool) -> str:
        template = self.pick(self.grammar.hedged if hedged else self.grammar.definite)
        return frame(template, self.noun(finding), self.grammar.number)

    def indication(self, study: ChestStudy, plan: _Plan) -> str:
        person = self.pick(self.grammar.persons[study.sex]).format(age=study.age)
        reason = self.pick(self.grammar.complaints[plan.complaint])
        return _sentences([self.pick(self.grammar.indications).format(person=person, reason=reason)])

    def findings(self, study: ChestStudy, plan: _Plan) -> str:
        remarks = [self.pick(self.grammar.remarks[key]) for key in plan.remarks]
        positive = [self.statement(*said) for said in plan.said]
        if len(positive) > 1 and self.generator.random() < 0.5:
            positive = positive[::-1]
        shown = {name for finding in study.findings for name in finding.shows}
        normal = [
            self.pick(phrases)
            for absent, phrases in self.grammar.normal
            if not absent & shown and self.generator.random() < 0.5
        ]
        negative = [self.denial(plan.denied)] if plan.denied else []
        blocks = [positive, normal + negative] if self.generator.random() < 0.6 else [normal + negative, positive]
        return _sentences(remarks[:1] + blocks[0] + blocks[1] + remarks[1:])

    def denial(self, denied: Sequence[str]) -> str:
        """One sentence that denies several findings."""
        first, *others = (self.pick(self.grammar.denials[name]) for name in denied)
        others = [phrase.rpartition("|")[2] for phrase in others]
        listed = f" {self.grammar.nor} ".join([", ".join([first, *others[:-1]]), *others[-1:]])
        return frame(self.pick(self.grammar.denying), listed, self.grammar.number)

    def impression(self, plan: _Plan) -> str:
        if not plan.said:
            return _sentences([self.pick(self.grammar.clear)])
        if all(finding.name == "support_devices" for finding, _ in plan.said):
            return _sentences([self.statement(*said) for said in plan.said] + [self.pick(self.grammar.clear)])
        lines = [_sentences([self.statement(*said)]) for said in plan.said[:_IMPRESSION_LINES]]
        if len(lines) > 1 and self.generator.random() < 0.4:
            lines = [f"{i}. {line}" for i, line in enumerate(lines, 1)]
        if self.generator.random() < 0.2:
            lines.append(_sentences([self.pick(self.grammar.advice)]))
        return " ".join(lines)


def _sentences(texts: Sequence[str]) -> str:
    """Capitalise, end with a full stop, join."""
    cleaned = (" ".join(text.split()).rstrip(".") for text in texts)
    return " ".join(f"{text[0].upper()}{text[1:]}." for text in cleaned if text)
