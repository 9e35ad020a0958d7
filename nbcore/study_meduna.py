"""One run of the MedUnA notebook: what its tables and figures are made of."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.special import softmax
from sklearn.metrics import silhouette_score

from nbcore.analysis import adaptation_figures
from nbcore.data import load_manifest
from nbcore.data.descriptions import load_descriptions
from nbcore.study_adaptation import Key, Outcome, StudyAdaptation
from nbcore.tasks.classification import accuracy_of, commonest_share, macro_f1
from nbcore.tasks.text_image import Alignment, top_k_alignment

_NEAREST = 10  # descriptions looked at in Figure 4; the paper's shows 1 to 5


class MedUnaStudy(StudyAdaptation):
    """The outcomes of `StudyAdaptation` as tidy tables, and what Figures 2, 4 and 5 show."""

    @property
    def main_backbone(self) -> str:
        """The backbone that description sets, figures and the collapse check are shown for."""
        asked = self.settings.main_backbone
        return asked if asked in self.settings.backbones else next(iter(self.settings.backbones))

    @property
    def description_sets(self) -> list[str]:
        """The set that is adapted with, then the others."""
        return list(dict.fromkeys([self.settings.descriptions, *self.settings.description_sets]))

    def description_examples(self, name: str, each: int = 1) -> pd.DataFrame:
        """How many descriptions of each class a data set has, and some to read: a row a set and class."""
        manifest = load_manifest(name)
        rows = [
            {"set": source, "class": label, "sentences": len(own), "for example": " ".join(own[:each])}
            for source in self.description_sets
            for label, own in load_descriptions(source, manifest).items()
        ]
        return pd.DataFrame(rows).set_index(["set", "class"])

    # --- tables

    def text_accuracies(self, title: str, sources: Sequence[str]) -> pd.DataFrame:
        """Accuracy of text classifiers on held-out descriptions: source, dataset, seed, text."""
        todo = [(source, name, seed) for source in sources for name in self.settings.adapt_on for seed in self.seeds]
        calls = [((title, name, source, seed), {}) for source, name, seed in todo]
        found = self.run_all("text_accuracy", calls, "text classifiers")
        return pd.DataFrame(
            [(*key, text) for key, text in zip(todo, found)], columns=["source", "dataset", "seed", "text"]
        )

    def accuracies(self, outcomes: Mapping[Key, Outcome]) -> pd.DataFrame:
        """A row a run: setting (the backbone), method, dataset, seed, and in [0, 1] `accuracy` after the last epoch,
        `chosen` after the epoch that is best on validation data, `best` after that which is best on the test set (what
        the official code prints), `f1` (macro, last epoch), and `commonest`, the share of the commonest answer.
        """
        rows = []
        for (title, method, name, seed), run in outcomes.items():
            classes = len(load_manifest(name).classes)
            scores = {
                "accuracy": accuracy_of(run.test_targets, run.predictions),
                "chosen": run.curve[run.chosen],
                "best": run.curve.max(),
                "f1": macro_f1(run.test_targets, run.predictions, classes),
                "commonest": commonest_share(run.predictions, classes),
            }
            rows.append({"setting": title, "method": method, "dataset": name, "seed": seed, **scores})
        return pd.DataFrame(rows)

    def references(self) -> pd.DataFrame:
        """The share of the commonest class in each test set, and a linear classifier of the frozen features trained on
        all labels: setting (the backbone), method, dataset, seed, accuracy."""
        rows = []
        for title in self.settings.backbones:
            for name in self.settings.adapt_on:
                found = self.reference_accuracies(title, name)
                keys = {"setting": title, "dataset": name, "seed": self.seeds[0]}
                rows += [{**keys, "method": method, "accuracy": accuracy} for method, accuracy in found.items()]
        return pd.DataFrame(rows)

    def separation(self, outcomes: Mapping[Key, Outcome], label: str) -> pd.DataFrame:
        """Silhouette of the classes in the features of the test pictures, before and after a method's Stage 2:
        backbone, dataset, seed, before, after in [-1, 1]."""
        rows = []
        for (title, method, name, seed), run in outcomes.items():
            if method == label:
                truth = run.test_targets
                pair = {"before": self.test_features(title, name), "after": run.features}
                scores = {
                    when: float(silhouette_score(points, truth, metric="cosine")) for when, points in pair.items()
                }
                rows.append({"backbone": title, "dataset": name, "seed": seed, **scores})
        return pd.DataFrame(rows)

    # --- figures

    def shown(self, name: str) -> str:
        """The data set that a figure is about; the first one where this study does without it."""
        return name if name in self.settings.adapt_on else self.settings.adapt_on[0]

    def test_features(self, title: str, name: str) -> np.ndarray:
        """Features of the test pictures without prompts, (n, D), rows of length 1."""
        return self.features(title, name)[self.rows(name, "test")]

    def alignment(
        self, outcomes: Mapping[Key, Outcome], title: str, name: str, source: str, *, prompted: bool
    ) -> Alignment:
        """The descriptions nearest to the test pictures (Fig. 4), as the backbone or, with `prompted`, the first seed's
        MedUnA sees them."""
        adapted = outcomes[title, "MedUnA", name, self.seeds[0]]
        images = adapted.features if prompted else self.test_features(title, name)
        texts, owners = self.descriptions(name, source)
        ks = range(1, min(_NEAREST, len(texts)) + 1)
        return top_k_alignment(images, self.text_features(title, texts), self.targets(name, "test"), owners, ks)

    def test_numbers(self, data_set: str) -> range:
        """Numbers of the test pictures of a data set."""
        return range(int(self.rows(data_set, "test").sum()))

    def opinions_view(
        self, outcomes: Mapping[Key, Outcome], backbone: str, data_set: str, number: int, seed: int
    ) -> Figure:
        """A test picture of a data set, its class, and what each method of `outcomes` that tells it holds for probable;
        a black one, and nothing of it, of private data."""
        row = np.flatnonzero(self.rows(data_set, "test"))[number]
        samples = self.samples(data_set)
        one, truth = samples.subset([row]), samples.classes[self.targets(data_set)[row]]
        held = {
            method: softmax(run.scores[number])
            for (title, method, name, own), run in outcomes.items()
            if (title, name, own) == (backbone, data_set, seed) and run.scores is not None
        }
        held = dict(self.guard.rows(one, list(held.items())))
        picture = self.guard.pictures(one, self.clean(backbone, data_set)[row])
        return adaptation_figures.opinions(picture, held, samples.classes, self.guard.sentences(one, [truth])[0])

    def training_curves(self, outcomes: Mapping[Key, Outcome], title: str) -> dict[str, dict[str, list[float]]]:
        """Data set -> losses of MedUnA by epoch, first seed."""
        runs = {name: outcomes[title, "MedUnA", name, self.seeds[0]] for name in self.settings.adapt_on}
        return {self.label(name): run.history.epochs() for name, run in runs.items()}

    def accuracy_curves(self, outcomes: Mapping[Key, Outcome], title: str) -> dict[str, dict[str, np.ndarray]]:
        """Data set -> method -> test accuracy by epoch, first seed; one number for a method without epochs."""
        curves: dict[str, dict[str, np.ndarray]] = {}
        for key, run in outcomes.items():
            if self.is_first(key, title, key[2]):
                curves.setdefault(self.label(key[2]), {})[key[1]] = run.curve
        return curves

    def is_first(self, key: Key, title: str, name: str) -> bool:
        """Whether it is the outcome of the first seed with this backbone on this data set."""
        return (key[0], *key[2:]) == (title, name, self.seeds[0])
