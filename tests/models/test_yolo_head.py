"""The YOLOv3 head: its size, its grids, and which maps each grid hears of."""

import pytest
import torch

from nbcore.models.detection import YoloHead, coco_anchors
from nbcore.models.vision import count_parameters


def draw_maps(channels=(8, 12, 16), sides=(8, 4, 2)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, c, side, side, generator=generator) for c, side in zip(channels, sides)]


def test_published_head_has_its_published_size():
    with torch.device("meta"):
        assert count_parameters(YoloHead((512, 1024, 2048))) == 21_626_934


@pytest.mark.parametrize("sides", [(28, 14, 7), (7, 4, 2), (9, 5, 3), (1, 1, 1)])
@pytest.mark.parametrize("classes", [1, 4])
def test_every_grid_has_the_side_of_its_map(sides, classes):
    head = YoloHead((8, 12, 16), classes, width=16).eval()
    logits = head(draw_maps(sides=sides))
    assert [tuple(grid.shape) for grid in logits] == [(2, 3 * (5 + classes), side, side) for side in sides]


def test_information_flows_from_coarse_to_fine_only():
    head, maps = YoloHead((8, 12, 16), width=16).eval(), draw_maps()
    before = head(maps)
    for changed in range(3):
        after = head([m + 1 if i == changed else m for i, m in enumerate(maps)])
        for grid in range(3):
            assert torch.equal(before[grid], after[grid]) == (grid > changed)


def test_a_coarse_cell_reaches_the_finer_cells_over_it():
    """With the convolutions' reach taken away, what changes in a coarse cell shows in the cells it covers."""
    head = YoloHead((8, 12, 16), width=16).double().eval()  # in float32 the change may vanish in rounding
    for layer in head.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (3, 3):
            layer.weight.data *= torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    maps = [m.double() for m in draw_maps()]
    before = head(maps)
    maps[2][:, :, 0, 1] += 1
    for old, new in zip(before, head(maps)):
        changed, half = (old != new).any(dim=1)[0], old.shape[-1] // 2  # (G, G)
        expected = torch.zeros_like(changed)
        expected[:half, half:] = True
        assert torch.equal(changed, expected)


def test_anchors_scale_with_the_picture():
    assert coco_anchors(416)[0].tolist() == [[10, 13], [16, 30], [33, 23]]
    torch.testing.assert_close(coco_anchors(224)[2, 0], torch.tensor([62.461538, 48.461538]))
    areas = coco_anchors(416).prod(dim=2)
    assert (areas[0].max() < areas[1].min()) and (areas[1].max() < areas[2].min())


def test_gradients_reach_every_parameter():
    head = YoloHead((8, 12, 16), width=16)
    sum(grid.square().sum() for grid in head(draw_maps())).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
