"""The stand-in language model: two views of a report, and losses that teach."""

import random

import torch

from nbcore.methods.language import LanguageModel, ReportViews, two_views
from nbcore.models.text import small_bert, train_tokenizer

REPORT = "The heart is normal. Small left effusion. No pneumothorax. Lines in place."


def test_views_split_the_sentences_in_order():
    first, second = two_views(REPORT, random.Random(0))
    sentences = REPORT.replace(". ", ".|").split("|")
    own = [[s for s in sentences if s in view] for view in (first, second)]
    assert sorted(own[0] + own[1]) == sorted(sentences)
    assert first == " ".join(own[0])
    assert second == " ".join(own[1])


def test_views_of_short_reports():
    assert two_views("normal", random.Random(0)) == ("normal", "normal")
    first, second = two_views("no acute disease seen", random.Random(0))
    assert len(first.split()) == len(second.split()) == 2


def test_views_are_a_function_of_the_seed():
    tokenizer = train_tokenizer([REPORT], 100)
    one, same, other = (ReportViews([REPORT] * 8, tokenizer, max_length=32, seed=s) for s in (0, 0, 1))
    assert torch.equal(one.__getitems__([3])["ids"], same.__getitems__([3])["ids"])
    assert one.__getitems__([0, 1])["ids"].shape[:2] == (2, 2)
    rows = list(range(8))
    differs = [view.__getitems__(rows)["ids"] for view in (one, other)]
    assert differs[0].shape != differs[1].shape or not torch.equal(*differs)


def test_losses_fall_when_trained():
    reports = [f"{side} {finding} seen. {size} {finding} on the {side}." for side in ("left", "right")
               for finding in ("effusion", "nodule", "opacity") for size in ("small", "large")]  # fmt: skip
    tokenizer = train_tokenizer(reports, 100)
    torch.manual_seed(0)
    model = LanguageModel(small_bert(tokenizer, width=32, layers=1, max_length=16), tokenizer).train()
    batch = ReportViews(reports, tokenizer, max_length=16, seed=0).__getitems__(list(range(len(reports))))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    history = []
    for _ in range(150):
        losses = model.losses(batch)
        losses["total"].backward()
        optimizer.step()
        optimizer.zero_grad()
        history.append({key: value.item() for key, value in losses.items()})
    assert history[0].keys() == {"words", "match", "total"}
    for key in ("words", "match"):
        late, early = (sum(h[key] for h in part) for part in (history[-5:], history[:5]))
        assert late < 0.85 * early, (key, early / 5, late / 5)
