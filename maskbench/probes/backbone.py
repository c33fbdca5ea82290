"""What is probed: a plain ViT encoder, ours or somebody else's, behind one small face.

Probes show it whole images, see the tokens of every layer, and may train it (fine-tuning); they
never ask whose it is.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from maskbench import seeds
from maskbench.data import augment
from maskbench.errors import DataError
from maskbench.model import Encoder, MaskedAutoencoder
from maskbench.weights import initialise


@dataclass(frozen=True)
class Backbone:
    """An encoder with what a probe must know of it.

    Args:
        encoder: On its device; parameters named as in timm's ``VisionTransformer``
            (``patch_embed``, ``cls_token``, ``pos_embed``, ``blocks.N``, ``norm``).
        name: For messages and tables: ``random-nano-...``, ``timm:vit_small_patch16_224.dino``.
        side: Its input side, pixels.
        patches: Patch tokens of an image (L).
        width: Numbers in a token (D).
        depth: Blocks.
        prepare: Uint8 images (B, 3, h, w), h and w at least ``side``, to its input (B, 3, side,
            side).
        every_layer: Its input to the tokens after each block, all through the final norm: ``depth``
            tensors (B, 1 + L, D), CLS first.
        prior: What it knows from outside of this benchmark; empty for nothing.
    """

    encoder: nn.Module
    name: str
    side: int
    patches: int
    width: int
    depth: int
    prepare: Callable[[Tensor], Tensor]
    every_layer: Callable[[nn.Module, Tensor], list[Tensor]]
    prior: str = ""

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return next(self.encoder.parameters()).device

    def layers(self, images: Tensor) -> list[Tensor]:
        """Tokens after each block, through the final norm: ``depth`` tensors (B, 1 + L, D).

        Args:
            images: As from ``prepare``; every patch is visible.
        """
        return self.every_layer(self.encoder, images)

    def tokens(self, images: Tensor) -> Tensor:
        """Tokens after the last block, through the final norm: (B, 1 + L, D), CLS first."""
        return self.layers(images)[-1]

    def copied(self) -> "Backbone":
        """The same with weights of its own, all of them to be trained."""
        return replace(self, encoder=copy.deepcopy(self.encoder).requires_grad_(requires_grad=True))

    def groups(self) -> list[list[tuple[str, nn.Parameter]]]:
        """Parameters by depth, for a layer-wise decay: embedding, each block, final norm."""
        found: list[list[tuple[str, nn.Parameter]]] = [[] for _ in range(self.depth + 2)]
        for name, parameter in self.encoder.named_parameters():
            first, _, rest = name.partition(".")
            if first == "blocks":
                place = 1 + int(rest.partition(".")[0])
            else:
                place = self.depth + 1 if first in ("norm", "fc_norm") else 0
            found[place].append((name, parameter))
        return found


def of_encoder(encoder: Encoder, name: str, prior: str = "") -> Backbone:
    """An encoder of this benchmark, or one in its names: central crop, ImageNet's constants."""
    shape = encoder.shape

    def prepare(images: Tensor) -> Tensor:
        """Central crop, normalised."""
        border = images.shape[-1] - shape.image
        if border < 0:
            raise DataError(
                f"images of {images.shape[-1]} px are too small for a {shape.image} px encoder"
            )
        first = border // 2
        cut = images[..., first : first + shape.image, first : first + shape.image]
        return augment.normalise(cut)

    return Backbone(
        encoder=encoder,
        name=name,
        side=shape.image,
        patches=shape.patches,
        width=shape.width,
        depth=shape.depth,
        prepare=prepare,
        every_layer=_encoder_layers,
        prior=prior,
    )


def _encoder_layers(encoder: Any, images: Tensor) -> list[Tensor]:
    found: list[Tensor] = encoder.layers(images)
    return found


def untrained(backbone: Backbone, seed: int) -> Backbone | None:
    """The same encoder before training: a run's own start, or timm's initial weights.

    Args:
        backbone: The encoder.
        seed: Of the weights; a run's own gives what that run began with.

    Returns:
        None where nobody says how its weights are drawn.
    """
    fresh = backbone.copied()
    encoder: Any = fresh.encoder
    if isinstance(encoder, Encoder):
        stream = seeds.generator(seed, "init")
        if encoder.shape.decoder_depth:  # drawn along with the decoder's
            start = MaskedAutoencoder(encoder.shape, stream)
            encoder.load_state_dict(start.encoder_state())
        else:
            initialise(encoder.cpu(), stream)
            encoder.to(backbone.device)
    elif hasattr(encoder, "init_weights"):
        with torch.random.fork_rng(devices=[]):  # timm draws from the global stream
            torch.manual_seed(seeds.key(seed, "init"))
            encoder.init_weights()
        before = dict(backbone.encoder.named_parameters())
        if any(  # older versions of timm leave some as they were
            torch.equal(value, before[name]) and value.numel() > 1 and bool(value.std() > 0)
            for name, value in encoder.named_parameters()
        ):
            return None
    else:
        return None
    encoder.requires_grad_(requires_grad=False)
    return replace(fresh, name="untrained encoder", prior="")
