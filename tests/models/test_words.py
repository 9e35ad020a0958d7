"""Words from word pieces, against explicit loops."""

import pytest
import torch

from nbcore.models.text import train_tokenizer
from nbcore.models.words import aggregate_words, continuing_pieces, word_segments

LENGTH = 8
# One report of words of 1, 3 and 2 pieces, one that fills all places, one of [SEP] alone.
SEGMENTS = torch.tensor([[-1, 0, 1, 1, 1, 2, 2, 3], [-1, 0, 0, 1, 2, -1, -1, -1], [-1, 0, -1, -1, -1, -1, -1, -1]])


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_words(states: torch.Tensor, attention: torch.Tensor, segments: torch.Tensor, shift: bool, slots: int):
    words, weights = torch.zeros(len(states), slots, states.shape[2]).double(), torch.zeros(len(states), slots).double()
    for b, report in enumerate(segments.tolist()):
        last = LENGTH - 1 if shift else LENGTH  # the official loop stops one piece early
        lost = report[last - 1] if shift and report[-1] >= 0 else None  # and so never closes the word it is in
        for i, word in enumerate(report[:last]):
            if word >= 0 and word != lost:
                words[b, word] += states[b, i]
                weights[b, word] += attention[b, i + shift]
    return words, weights


@pytest.mark.parametrize("shift", [False, True])
def test_words_equal_the_slow_reference(shift):
    states, attention = draw(3, LENGTH, 5).requires_grad_(), draw(3, LENGTH, seed=1).abs()
    words, weights, mask = aggregate_words(states, attention, SEGMENTS, official_shift=shift)
    slots = LENGTH - 1 if shift else 4
    expected, expected_weights = slow_words(states, attention, SEGMENTS, shift, slots)
    torch.testing.assert_close(words, expected)
    torch.testing.assert_close(weights, expected_weights)
    assert mask.sum(dim=1).tolist() == [2 if shift else 4, 3, 1]
    gradient = draw(*words.shape, seed=2)
    torch.testing.assert_close(
        *(torch.autograd.grad((gradient * found).sum(), [states])[0] for found in (words, expected))
    )


def test_attention_is_kept_and_padding_has_no_part():
    states, attention = draw(3, LENGTH, 5), draw(3, LENGTH, seed=1).abs()
    words, weights, mask = aggregate_words(states, attention, SEGMENTS)
    torch.testing.assert_close(weights.sum(dim=1), (attention * (SEGMENTS >= 0)).sum(dim=1))
    noisy = states + 100 * (SEGMENTS < 0)[:, :, None]
    torch.testing.assert_close(aggregate_words(noisy, attention, SEGMENTS)[0], words)
    assert not words[~mask].any()


def test_segments_follow_the_tokenizer():
    tokenizer = train_tokenizer(["the heart is normal", "clear lungs"], 60)
    continues = continuing_pieces(tokenizer)
    assert len(continues) == len(tokenizer)
    tokens = tokenizer(["the hat is clear", "lungs"], padding=True, return_tensors="pt")
    assert tokenizer.convert_ids_to_tokens(tokens["input_ids"][0])[2:5] == ["h", "##a", "##t"]
    segments = word_segments(tokens["input_ids"], tokens["attention_mask"], continues)
    assert segments.tolist() == [[-1, 0, 1, 1, 1, 2, 3, 4], [-1, 0, 1, -1, -1, -1, -1, -1]]
