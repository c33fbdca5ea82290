"""Networks of the timm library, whose weights were trained outside of this benchmark."""

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from maskbench.errors import UsageError, unknown
from maskbench.probes.backbone import Backbone
from maskbench.probes.weights import brief, listed, refuse_compressed
from maskbench.trust import plain

FITS = "a plain vision transformer with patch tokens and a CLS token (vit_*, deit_*, eva02_*)"


def network(
    name: str, file: str = "", side: int | None = None
) -> tuple[nn.Module, Mapping[str, Any]]:
    """A network of the timm library without its head, and how it wants its images.

    Args:
        name: Its name in timm, such as ``vit_small_patch16_224.dino``.
        file: Weights; empty to take them from the model hub.
        side: Input side, pixels; None for its own.

    Raises:
        UsageError: No such model; or its weights cannot be had, or do not fit.
    """
    if file and not Path(file).is_file():
        raise UsageError(
            f"timm:{plain(name)}@{plain(file)}: there is no file {plain(file)}. Give the path of a "
            ".safetensors or .pth file, or leave it out, with the @, to download the weights."
        )
    if file:
        refuse_compressed(Path(file))
    try:
        return _pretrained(name, file, side)
    except UsageError:
        raise
    except Exception as error:  # the hub, the network, the disk or the file: many kinds
        todo = (
            "Give a file with weights of this very model."
            if file
            else "They are downloaded at first use. Without a network, bring the file here and "
            f"give timm:{name}@FILE."
        )
        sized = f" at {side} px" if side is not None else ""
        raise UsageError(
            f"the weights of timm's {name} cannot be loaded{sized} from "
            f"{plain(file) or 'the model hub'} ({brief(error)}). {todo}"
        ) from error


def _pretrained(name: str, file: str, side: int | None) -> tuple[nn.Module, Mapping[str, Any]]:
    if not timm.is_model(name):
        told, _, _ = unknown("timm model", name, timm.list_models()).partition(" Known:")
        raise UsageError(f"{told} timm.list_models() names them all.")
    more: dict[str, Any] = {"pretrained_cfg_overlay": {"file": file}} if file else {}
    if side is not None:
        more["img_size"] = side  # timm interpolates its positions
    with torch.random.fork_rng(devices=[]):
        module: Any = timm.create_model(name, pretrained=True, **more)  # with its head: all fits
        module.reset_classifier(0)
    config: Mapping[str, Any] = resolve_model_data_config(module)
    broken = [key for key, value in module.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise ValueError(f"{len(broken)} of its tensors are not finite: {listed(broken)}")
    return module.eval(), config


def timm_backbone(
    name: str, file: str = "", side: int | None = None, device: torch.device | str = "cpu"
) -> Backbone:
    """A vision transformer of the timm library.

    Images are cut or enlarged to its input side, with its own constants.
    Registers and other tokens beyond CLS take part, and are not shown.

    Args:
        name: Its name in timm.
        file: Weights; empty to take them from the model hub.
        side: Input side, pixels; None for its own. Positions are interpolated by timm.
        device: Where it is put.

    Raises:
        UsageError: As ``network``; or it is no plain vision transformer with CLS.
    """
    module: Any
    module, wants = network(name, file, side)
    _, height, width = wants["input_size"]
    own = side or width
    walk = getattr(module, "forward_intermediates", None)
    walks = walk and "return_prefix_tokens" in inspect.signature(walk).parameters
    known = walks and getattr(module, "cls_token", None) is not None and hasattr(module, "blocks")
    if not known or (side is None and height != width):
        raise UsageError(
            f"timm:{plain(name)} is a {type(module).__name__}; what can be probed is "
            f"{FITS}, for square images."
        )
    if getattr(module, "attn_pool", None) is not None:
        module.attn_pool = None  # a kind of head
    module.requires_grad_(requires_grad=False).to(device)
    patch = module.patch_embed.patch_size[0]
    refuse_side(own, patch, f"timm:{name}")
    with torch.no_grad():
        tokens = every_layer(module, torch.zeros(1, 3, own, own, device=device))
    depth, patches = len(module.blocks), (own // patch) ** 2
    if [t.shape for t in tokens] != [(1, 1 + patches, module.embed_dim)] * depth:
        raise UsageError(
            f"timm:{plain(name)} gives {len(tokens)} layers of {tuple(tokens[-1].shape)} for "
            f"{depth} blocks and {patches} patches; what can be probed is {FITS}."
        )
    return Backbone(
        encoder=module,
        name=f"timm:{name}",
        side=own,
        patches=patches,
        width=module.embed_dim,
        depth=depth,
        prepare=partial(prepared, side=own, mean=wants["mean"], deviation=wants["std"]),
        every_layer=every_layer,
        prior=f"timm {name}, weights trained outside this benchmark",
    )


def every_layer(module: Any, images: Tensor) -> list[Tensor]:
    """Tokens after each block, through the final norm: ``depth`` tensors (B, 1 + L, D), CLS first.

    Models that pool before their final norm have it under ``fc_norm``.
    """
    norm = module.fc_norm if isinstance(module.norm, nn.Identity) else module.norm
    found = module.forward_intermediates(
        images, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
    )
    return [norm(torch.cat([prefix[:, :1], patches], dim=1)) for patches, prefix in found]


def refuse_side(side: int, patch: int, what: str) -> None:
    """Refuse an input side that patches do not fill, or that is absurd.

    Raises:
        UsageError: It is one.
    """
    if side % patch or not patch <= side <= 256 * patch:
        raise UsageError(
            f"{plain(what)} cannot be probed at {side} px: give a multiple of its patch side, "
            f"{patch} px, up to {256 * patch}."
        )


def resampled(positions: Tensor, grid: int) -> Tensor:
    """Position embeddings of another square grid, by timm's bicubic interpolation.

    Args:
        positions: (1, 1 + L, D), CLS first; L is a square.
        grid: Patches along one side.

    Returns:
        (1, 1 + grid * grid, D); the same where nothing changes.
    """
    found: Tensor = resample_abs_pos_embed(positions, [grid, grid], num_prefix_tokens=1)
    return found


def prepared(
    images: Tensor, side: int, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Tensor:
    """Uint8 images, (B, 3, h, w): their centre where they are larger, as a run's encoder sees it.

    Smaller ones are enlarged.
    """
    border = max(images.shape[-1] - side, 0) // 2
    inner = images[..., border : border + side, border : border + side] if border else images
    return resized(inner.float() / 255, side, mean, deviation)


def resized(
    images: Tensor, side: int, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Tensor:
    """Images as a foreign network wants them.

    Args:
        images: Floats 0 to 1, (B, 3, height, width).
        side: Its input side, pixels (bilinear, antialiased).
        mean: What it subtracts per channel.
        deviation: What it divides by.

    Returns:
        (B, 3, side, side).
    """
    sized = nn.functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
    centre, scale = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (mean, deviation))
    return (sized - centre) / scale
