"""From stored arrays to training batches: row access, crops and augmentation, on whole batches at once.

Shapes: B batch, h stored side, H side after the crop (pixels).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Augmentation = Literal["none", "crop", "official", "convirt", "med_unic", "med_unic_paper"]


class Columns:
    """A data set of aligned arrays (memory-mapped ones too) that hands out whole batches of rows."""

    def __init__(self, columns: Mapping[str, np.ndarray | Tensor]):
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"columns of different lengths: {lengths}")
        self.columns = dict(columns)
        self._length = next(iter(lengths.values()))

    def __len__(self) -> int:
        return self._length

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rows = np.asarray(indices)
        return {name: torch.as_tensor(values[rows]) for name, values in self.columns.items()}


def prepare(images: Tensor, size: int, augmentation: Augmentation, generator: torch.Generator | None = None) -> Tensor:
    """Crop stored radiographs, augment them and scale them to [-1, 1].

    Args:
        images: uint8 (B, h, h).
        size: H <= h, the encoder's input side.
        augmentation: "none" is the centre crop of evaluation; "crop" a random crop (MGCA, Med-UniC's first view);
            "official" adds M-FLAG's rotation by 0 to 90 degrees, perspective distortion 0.5 with probability 1/2, and
            contrast stretching with probability 1/2. (Its random greyscale does nothing to a grey image.) Rotation and
            perspective are one bilinear resampling here, two in the official code. "convirt" is ConVIRT's: a crop of 60
            to 100 % of the side, a flip, rotation by up to 20 degrees, a shift of up to a tenth, a scale of 0.95 to
            1.05 (one resampling), brightness and contrast changed by up to 40 %, Gaussian blur. "med_unic" is the
            second view of Med-UniC's code: a random crop, rotation by 0 to 90 degrees, a horizontal shear of up to 10
            degrees, a scale of 0.9 to 1.1, a shift of up to a tenth (again one resampling here, two in the code), and
            contrast stretching with probability 1/2. "med_unic_paper" is that of its paper: a random crop, a flip with
            probability 1/2, rotation by 0 to 180 degrees, and contrast stretching with probability 1/2.
        generator: source of randomness; needed unless `augmentation` is "none".

    Returns:
        float32 (B, 1, H, H) in [-1, 1].
    """
    if augmentation == "none":
        offset = (images.shape[-1] - size) // 2
        pixels = images[:, offset : offset + size, offset : offset + size].unsqueeze(1)  # (B, 1, H, H)
        return pixels.float() / 127.5 - 1
    if augmentation == "convirt":
        pixels = F.grid_sample(images.unsqueeze(1).float() / 255, _affine(images, size, generator), align_corners=False)
        return _blur(_jitter(pixels, generator), generator) * 2 - 1
    pixels = _random_crop(images, size, generator).unsqueeze(1).float() / 255  # (B, 1, H, H)
    if augmentation in _WARPS:
        pixels = F.grid_sample(pixels, _WARPS[augmentation](pixels, generator), align_corners=False)
        pixels = _stretch_contrast(pixels, generator)
    return pixels * 2 - 1


def _uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform numbers in [0, 1), drawn on the generator's device, on the device of `like`."""
    return torch.rand(shape, generator=generator, device=generator.device).to(like.device)


def _random_crop(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A random H x H window of each image; (B, h, h) -> (B, H, H)."""
    batch, room = len(images), images.shape[-1] - size + 1
    corners = (_uniform((2, batch, 1), images, generator) * room).long()
    span = torch.arange(size, device=images.device)
    rows, columns = corners[0] + span, corners[1] + span  # each (B, H)
    return images[torch.arange(batch, device=images.device)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _rotation_and_perspective(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Sampling grid (B, H, H, 2) of a random rotation after a random perspective, in [-1, 1] coordinates."""
    batch, size = len(pixels), pixels.shape[-1]
    angle = _uniform((batch,), pixels, generator) * torch.pi / 2
    distorted = _uniform((batch, 1, 1), pixels, generator) < 0.5
    inset = _uniform((batch, 4, 2), pixels, generator) * 0.5 * distorted  # up to a quarter of the side, at each corner
    corners = pixels.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    homography = _homography(corners * (1 - inset), corners)  # target corners -> source corners
    turn = _turn(angle)
    axis = (torch.arange(size, device=pixels.device) * 2 + 1) / size - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    points = torch.stack([x, y], dim=-1).view(1, -1, 2) @ turn.transpose(1, 2)  # (B, H * H, 2)
    mapped = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1) @ homography.transpose(1, 2)
    return (mapped[..., :2] / mapped[..., 2:]).view(batch, size, size, 2)


def _turn(angle: Tensor) -> Tensor:
    """Linear maps (B, 2, 2) that say where in the picture a pixel of the one turned by `angle` (B,), radians, is."""
    return torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).view(-1, 2, 2)


def _rotation_and_affine(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Sampling grid (B, H, H, 2) of a rotation, then a shear, a scale and a shift (Med-UniC's code)."""
    drawn = _uniform((5, len(pixels)), pixels, generator)
    scale, shear = 0.9 + 0.2 * drawn[1], torch.deg2rad(20 * drawn[2] - 10)
    shift = 0.2 * (2 * drawn[3:] - 1)  # (2, B); the side of a picture is 2 long
    one, zero = torch.ones_like(scale), torch.zeros_like(scale)
    sheared = torch.stack([one, shear.tan(), zero, one], dim=1).view(-1, 2, 2)
    linear = _turn(drawn[0] * torch.pi / 2) @ sheared / scale[:, None, None]  # (B, 2, 2)
    return _affine_grid(pixels, linear, -linear @ shift.T[:, :, None])


def _flip_and_rotation(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Sampling grid (B, H, H, 2) of a horizontal flip, with probability 1/2, then a rotation (Med-UniC's paper)."""
    drawn = _uniform((2, len(pixels)), pixels, generator)
    sign = torch.where(drawn[0] < 0.5, -1.0, 1.0)
    flip = torch.diag_embed(torch.stack([sign, torch.ones_like(sign)], dim=1))  # (B, 2, 2)
    return _affine_grid(pixels, flip @ _turn(drawn[1] * torch.pi), pixels.new_zeros(len(pixels), 2, 1))


def _affine_grid(pixels: Tensor, linear: Tensor, offset: Tensor) -> Tensor:
    """Sampling grid (B, H, H, 2) of maps (B, 2, 2) and (B, 2, 1) from the new picture to the old, in [-1, 1]."""
    return F.affine_grid(torch.cat([linear, offset], dim=2), pixels.shape, align_corners=False)


_WARPS = {
    "official": _rotation_and_perspective,
    "med_unic": _rotation_and_affine,
    "med_unic_paper": _flip_and_rotation,
}


def _homography(source: Tensor, target: Tensor) -> Tensor:
    """The projective maps that take four points (B, 4, 2) to four points (4, 2); (B, 3, 3) with last entry 1."""
    batch = len(source)
    x, y = source.unbind(-1)  # (B, 4)
    u, v = target.expand(batch, 4, 2).unbind(-1)
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    equations = torch.cat(
        [
            torch.stack([x, y, one, zero, zero, zero, -u * x, -u * y], dim=-1),
            torch.stack([zero, zero, zero, x, y, one, -v * x, -v * y], dim=-1),
        ],
        dim=1,
    )  # (B, 8, 8)
    solution = torch.linalg.solve(equations, torch.cat([u, v], dim=1))
    return torch.cat([solution, solution.new_ones(batch, 1)], dim=1).view(batch, 3, 3)


def _stretch_contrast(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Map each image's own range to [0, 1], with probability 1/2."""
    low, high = pixels.amin(dim=(1, 2, 3), keepdim=True), pixels.amax(dim=(1, 2, 3), keepdim=True)
    stretched = (pixels - low) / (high - low).clamp_min(1 / 255)
    return torch.where(_uniform((len(pixels), 1, 1, 1), pixels, generator) < 0.5, stretched, pixels)


def _affine(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Sampling grid (B, H, H, 2) of ConVIRT's crop, flip, rotation, shift and scale."""
    drawn = _uniform((8, len(images)), images, generator)
    side = (0.6 + 0.4 * drawn[0]) / (0.95 + 0.1 * drawn[1])  # of the window, in sides of the picture
    angle = torch.deg2rad(40 * drawn[2] - 20)
    flip = torch.where(drawn[3] < 0.5, -1.0, 1.0)
    room = (1 - side).clamp_min(0)
    x, y = (2 * drawn[4:6] - 1) * room + 0.2 * (2 * drawn[6:] - 1)  # the window's centre
    cos, sin = side * angle.cos(), side * angle.sin()
    maps = torch.stack([flip * cos, -sin, x, flip * sin, cos, y], dim=1).view(-1, 2, 3)  # window -> picture
    return F.affine_grid(maps, [len(images), 1, size, size], align_corners=False)


def _jitter(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness, then contrast, times 0.6 to 1.4."""
    brightness, contrast = 0.6 + 0.8 * _uniform((2, len(pixels), 1, 1, 1), pixels, generator)
    pixels = (pixels * brightness).clamp(0, 1)
    mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
    return ((pixels - mean) * contrast + mean).clamp(0, 1)


def _blur(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian blur, sigma 0.1 to 3 pixels of a picture of 224, (B, 1, H, H)."""
    batch, size = len(pixels), pixels.shape[-1]
    sigma = (0.1 + 2.9 * _uniform((batch, 1), pixels, generator)) * size / 224
    reach = max(1, round(3 * 3 * size / 224))
    offsets = torch.arange(-reach, reach + 1, device=pixels.device)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=1)  # (B, 2 reach + 1)
    planes = F.pad(pixels.transpose(0, 1), (reach,) * 4, mode="reflect")  # (1, B, H + 2 reach, H + 2 reach)
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=batch)
    return F.conv2d(planes, kernel[:, None, None, :], groups=batch).transpose(0, 1)
