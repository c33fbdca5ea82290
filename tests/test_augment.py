"""Crops: torchvision's distribution and pixels, but drawn for every image on its own."""

import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from maskbench.data import augment
from maskbench.data.augment import Crops, crop_resize, draw_crops


def crops(count: int = 2000, seed: int = 0, epoch: int = 0, side: int = 40) -> Crops:
    return draw_crops(seed, torch.full((count,), epoch), torch.arange(count), side, count)


@pytest.mark.parametrize("out", [16, 32, 48])
@pytest.mark.parametrize("flip", [False, True])
def test_pixels_equal_torchvisions(out: int, flip: bool) -> None:
    """Same box, same bicubic antialiased pixels, up and down."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (5, 40, 40, 3), generator=generator, dtype=torch.uint8)
    drawn = crops(5)
    drawn = Crops(drawn.top, drawn.left, drawn.height, drawn.width, torch.full((5,), flip))
    ours = crop_resize(images, drawn, out)
    for i in range(5):
        box = [int(v[i]) for v in (drawn.top, drawn.left, drawn.height, drawn.width)]
        picture = images[i].permute(2, 0, 1).float()
        theirs = functional.resized_crop(
            picture,
            *box,
            size=[out, out],
            interpolation=v2.InterpolationMode.BICUBIC,
            antialias=True,
        ).clamp(0, 255)
        theirs = functional.horizontal_flip(theirs) if flip else theirs
        assert torch.allclose(ours[i], theirs, atol=0.02)


def test_boxes_lie_inside_and_follow_the_published_ranges() -> None:
    drawn = crops(side=224)
    area = drawn.height * drawn.width / 224**2
    aspect = drawn.width / drawn.height
    assert (drawn.top >= 0).all()
    assert (drawn.left >= 0).all()
    assert (drawn.top + drawn.height <= 224).all()
    assert (drawn.left + drawn.width <= 224).all()
    assert area.min() > 0.19
    assert area.max() <= 1
    assert aspect.min() > 0.74
    assert aspect.max() < 1.35
    assert abs(float(drawn.flip.float().mean()) - 0.5) < 5 * 0.5 / math.sqrt(2000)


def test_distribution_equals_torchvisions() -> None:
    """Mean area and mean height of 2,000 boxes, within five standard errors."""
    torch_rng = torch.random.get_rng_state()
    torch.manual_seed(0)
    crop, picture = v2.RandomResizedCrop(32, scale=(0.2, 1)), [torch.zeros(3, 224, 224)]
    boxes = [crop.make_params(picture) for _ in range(2000)]
    theirs = torch.tensor([[box["height"], box["width"]] for box in boxes]).float()
    torch.random.set_rng_state(torch_rng)
    drawn = crops(side=224)
    for ours, other in ((drawn.height, theirs[:, 0]), (drawn.width, theirs[:, 1])):
        error = math.sqrt((float(ours.var()) + float(other.var())) / 2000)
        assert abs(float(ours.mean() - other.mean())) < 5 * error


def test_a_crop_is_a_function_of_seed_epoch_and_image() -> None:
    positions = torch.tensor([7, 3, 11])
    together = draw_crops(1, torch.tensor([2, 2, 2]), positions, 40, 100)
    for i, position in enumerate(positions):
        alone = draw_crops(1, torch.tensor([2]), position.view(1), 40, 100)
        assert [float(getattr(alone, n)[0]) for n in vars(alone)] == [
            float(getattr(together, n)[i]) for n in vars(together)
        ]
    assert len({float(area) for area in crops(50).height * crops(50).width}) > 30
    for other in (crops(seed=1), crops(epoch=1)):
        assert not torch.equal(crops().top, other.top)


def test_whole_image_unflipped_is_the_identity() -> None:
    images = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator())
    zero, full = torch.zeros(2), torch.full((2,), 16.0)
    same = crop_resize(images, Crops(zero, zero, full, full, torch.zeros(2, dtype=torch.bool)), 16)
    assert torch.allclose(same, images.permute(0, 3, 1, 2).float(), atol=1e-3)


def test_normalise_and_centre() -> None:
    images = torch.zeros(1, 6, 6, 3, dtype=torch.uint8)
    images[:, 2:4, 2:4] = torch.tensor([255, 0, 255], dtype=torch.uint8)
    middle = augment.centre(images, 2)
    assert middle.shape == (1, 3, 2, 2)
    values = augment.normalise(middle)[0, :, 0, 0]
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (1 - 0.406) / 0.225]
    assert torch.allclose(values, torch.tensor(expected), atol=1e-5)
