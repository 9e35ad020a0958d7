"""Grad-CAM of a cosine: against formulas, finite differences and the grad-cam library."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nbcore.analysis.gradcam import map_agreement, similarity_maps
from nbcore.models.heads import mlp_projector
from nbcore.models.vision import VisionEncoder, vision_encoder

NAMES = ("tiny_resnet", "tiny_vit")


def encoder_and_projector(name: str, seed: int = 0) -> tuple[VisionEncoder, nn.Module]:
    """With normalisation that does something, as after training: timm starts residual branches at 0."""
    torch.manual_seed(seed)
    vision = vision_encoder(name, image_size=64)
    project = mlp_projector(vision.width, 24, 16)
    for part in [*vision.modules(), *project.modules()]:
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.1)
            nn.init.normal_(part.running_mean, std=0.1)
    return vision.eval(), project.eval()


def inputs(count: int = 3, side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.rand(count, 1, side, side) * 2 - 1, torch.randn(count, 16)


def finished(coarse: torch.Tensor, side: int) -> torch.Tensor:
    """A coarse map (h, w) as it is handed out."""
    large = F.interpolate(coarse.relu()[None, None], (side, side), mode="bilinear")[0, 0]
    return large / large.max()


def test_a_resnets_maps_follow_from_the_formula():
    """A pooled map's gradient is that of the pooled features over h w: cosine and linear projector by hand."""
    vision, _ = encoder_and_projector("tiny_resnet")
    project = nn.Linear(vision.width, 16, bias=False)
    images, texts = inputs()
    maps = similarity_maps(vision, project, images, texts)
    with torch.no_grad():
        last = vision.maps(images)[-1]  # (B, D, 2, 2)
        assert last.shape[-2:] == (2, 2)
        for image, activation, text in zip(maps, last, texts):
            embedding = project.weight @ activation.mean(dim=(1, 2))
            e, t = embedding / embedding.norm(), text / text.norm()
            weights = project.weight.T @ (t - (t @ e) * e) / embedding.norm() / 4  # (D)
            torch.testing.assert_close(image, finished((weights[:, None, None] * activation).sum(0), 64))


def test_a_vits_maps_follow_from_finite_differences():
    vision, project = (part.double() for part in encoder_and_projector("tiny_vit"))
    images, texts = (each.double() for each in inputs(count=1, side=24))
    block, backbone, step = vision.backbone.blocks[-1], vision.backbone, 1e-5

    def cosines(read: torch.Tensor) -> torch.Tensor:
        """Of what the last block's attention reads, (n, 1 + S, D)."""
        state = entering + block.ls1(block.attn(read))
        state = state + block.ls2(block.mlp(block.norm2(state)))
        return F.cosine_similarity(project(backbone.norm(state)[:, 0]), texts, dim=1)

    with torch.no_grad():
        seen = []
        with block.register_forward_pre_hook(lambda _, given: seen.append(given[0])):
            vision.global_features(images)
        entering = seen[0]  # (1, 1 + S, D)
        read = block.norm1(entering)[0]  # (1 + S, D)
        shifts = torch.eye(read.numel(), dtype=torch.float64).view(-1, *read.shape) * step
        gradient = torch.cat(
            [(cosines(read + part) - cosines(read - part)) / (2 * step) for part in shifts.split(200)]
        ).view_as(read)
    weights = gradient[1:].mean(dim=0)  # (D), over the 3 x 3 patches
    expected = finished((read[1:] @ weights).view(3, 3), 24)
    torch.testing.assert_close(
        similarity_maps(vision, project, images, texts)[0], expected.float(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("name", "stage"), [("tiny_resnet", 4), ("tiny_resnet", 2), ("tiny_vit", 4)])
def test_agrees_with_the_grad_cam_library(name, stage):
    """But for its scaling, which takes each map's minimum off."""
    from pytorch_grad_cam import GradCAM

    vision, project = encoder_and_projector(name)
    images, texts = inputs()

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([vision, project])

        def forward(self, pictures):
            return project(vision.global_features(pictures))

    def grid(states):
        return states[:, 1:].transpose(1, 2).unflatten(2, (8, 8))

    ours = similarity_maps(vision, project, images, texts, stage)
    backbone = vision.backbone
    stages = [None if vision.is_transformer else getattr(backbone, f"layer{i}") for i in (1, 2, 3, 4)]
    layer, reshape = (backbone.blocks[-1].norm1, grid) if vision.is_transformer else (stages[stage - 1], None)
    with GradCAM(model=Whole(), target_layers=[layer], reshape_transform=reshape) as library:
        targets = [lambda embedding, text=text: F.cosine_similarity(embedding, text, dim=0) for text in texts]
        theirs = torch.from_numpy(library(images, targets))
    assert (ours.amax(dim=(1, 2)) == 1).sum() >= 2
    low = ours.amin(dim=(1, 2), keepdim=True)
    torch.testing.assert_close((ours - low) / (1 - low), theirs, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quadrant", [(0, 64), (64, 0)])
def test_heat_lies_in_the_only_quadrant_that_matters(name, quadrant):
    """In networks without biases or mixing, what a blank place gives is 0, whatever the weights."""
    torch.manual_seed(0)
    vision = vision_encoder(name, image_size=128).eval()
    if vision.is_transformer:
        nn.init.zeros_(vision.backbone.pos_embed)
        nn.init.zeros_(vision.backbone.patch_embed.proj.bias)
        for block in vision.backbone.blocks[:-1]:
            nn.init.zeros_(block.attn.proj.weight)
    rows, columns = (slice(start + 20, start + 50) for start in quadrant)
    image = torch.zeros(1, 1, 128, 128)
    image[..., rows, columns] = 1
    with torch.no_grad():
        text = vision.global_features(image)[0] - vision.global_features(torch.zeros_like(image))[0]
    heat = similarity_maps(vision, lambda pooled: pooled, image, text)[0]
    assert heat.max() == 1
    margin = 16  # half a cell of the ResNet's 4 x 4, over which its heat fades
    near = torch.zeros(128, 128, dtype=torch.bool)
    near[tuple(slice(max(0, start - margin), start + 64 + margin) for start in quadrant)] = True
    assert heat[~near].eq(0).all()
    inside = torch.zeros_like(near)
    inside[tuple(slice(start, start + 64) for start in quadrant)] = True
    assert inside[heat == 1].all()


@pytest.mark.parametrize("name", NAMES)
def test_texts_count_by_direction_and_pictures_do_not_mix(name):
    vision, project = encoder_and_projector(name)
    images, texts = inputs()
    maps = similarity_maps(vision, project, images, texts)
    assert maps.shape == (3, 64, 64) and maps.dtype == torch.float32 and maps.min() >= 0
    torch.testing.assert_close(similarity_maps(vision, project, images, 50 * texts), maps, rtol=1e-3, atol=1e-4)
    for i in range(3):
        alone = similarity_maps(vision, project, images[i : i + 1], texts[i])
        torch.testing.assert_close(alone[0], maps[i], rtol=1e-3, atol=1e-4)


def test_a_text_that_nothing_speaks_for_has_an_empty_map():
    """A ResNet's features are >= 0: if all the text asks for is less of one of them, no place has it."""
    vision, _ = encoder_and_projector("tiny_resnet")
    images, _ = inputs()

    def one_feature_and_a_constant(pooled):
        return torch.stack([pooled[:, 0], torch.ones(len(pooled))], dim=1)

    with torch.no_grad():
        assert (vision.global_features(images)[:, 0] > 0).all()
    maps = similarity_maps(vision, one_feature_and_a_constant, images, torch.tensor([-1.0, 0.0]))
    assert maps.eq(0).all()
    assert (
        similarity_maps(vision, one_feature_and_a_constant, images, torch.tensor([1.0, 0.0])).amax((1, 2)).eq(1).all()
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frozen", [False, True])
def test_the_networks_are_left_as_they_were(name, frozen):
    vision, project = encoder_and_projector(name)
    images, texts = inputs()
    expected = similarity_maps(vision, project, images, texts)
    for part in (vision, project):
        part.train().requires_grad_(not frozen)
    vision.backbone.norm_pre = nn.Identity().eval()  # one part in another mode
    for parameter in vision.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {key: value.clone() for key, value in [*vision.state_dict().items(), *project.state_dict().items()]}
    modes = [part.training for part in [*vision.modules(), *project.modules()]]
    with torch.no_grad():
        maps = similarity_maps(vision, project, images, texts)
        assert not torch.is_grad_enabled()
    torch.testing.assert_close(maps, expected)
    assert not maps.requires_grad and torch.is_grad_enabled()
    assert [part.training for part in [*vision.modules(), *project.modules()]] == modes
    assert all((parameter.grad == 1).all() for parameter in vision.parameters())
    assert all(parameter.grad is None for parameter in project.parameters())
    after = {**vision.state_dict(), **project.state_dict()}
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert not any(part._forward_hooks for part in vision.modules())


def test_maps_agree_as_their_pictures_correlate():
    drawn = np.random.default_rng(0)
    first, second = drawn.random((5, 8, 8)), drawn.random((5, 8, 8))
    expected = np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(first, second)])
    assert map_agreement(first, second) == pytest.approx(expected)
    assert map_agreement(first, 3 * first + 1) == pytest.approx(1)
    assert map_agreement(first, -first) == pytest.approx(-1)


def test_a_constant_map_agrees_with_nothing():
    first = np.random.default_rng(0).random((4, 8, 8)).astype(np.float32)
    second = first.copy()
    second[1], second[3] = 0, 0.1
    assert map_agreement(first, second) == pytest.approx(0.5)
    assert map_agreement(second[1:2], second[1:2]) == 0
