"""The same masked autoencoder by others, with the same weights: whom a user would pick instead.

``transformers`` (``ViTMAEForPreTraining``) and ``lightly`` (its modules put together as in its own
example of MAE); ``uv sync --group bench`` installs them.
"""

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from maskbench.model import MaskedAutoencoder
from maskbench.shape import ModelShape


def hugging_face(model: MaskedAutoencoder, ratio: float) -> nn.Module:
    """The model of ``transformers`` with these weights; called with images and ``noise``."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    shape = model.shape
    config: Any = ViTMAEConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        image_size=shape.image,
        patch_size=shape.patch,
        decoder_hidden_size=shape.decoder_width,
        decoder_num_hidden_layers=shape.decoder_depth,
        decoder_num_attention_heads=shape.decoder_heads,
        decoder_intermediate_size=4 * shape.decoder_width,
        mask_ratio=ratio,
        norm_pix_loss=True,
        layer_norm_eps=1e-6,
        attn_implementation="sdpa",
    )
    peer: Any = ViTMAEForPreTraining(config)
    vit, decoder = peer.vit, peer.decoder
    with torch.no_grad():
        _pairs(
            (vit.embeddings.patch_embeddings.projection, model.patch_embed.proj),
            (_one(vit, "layernorm"), model.norm),
            (decoder.decoder_embed, model.decoder_embed),
            (decoder.decoder_norm, model.decoder_norm),
            (decoder.decoder_pred, model.decoder_pred),
        )
        vit.embeddings.cls_token.copy_(model.cls_token)
        decoder.mask_token.copy_(model.mask_token)
        vit.embeddings.position_embeddings.copy_(model.pos_embed)
        decoder.decoder_pos_embed.copy_(model.decoder_pos_embed)
        layers: Any = _one(vit, "layers", "encoder.layer")
        for theirs, ours in zip(layers, model.blocks, strict=True):
            _block(theirs, ours)
        for theirs, ours in zip(decoder.decoder_layers, model.decoder_blocks, strict=True):
            _block(theirs, ours)
    peer.train()
    return cast("nn.Module", peer)


def _one(owner: Any, *names: str) -> Any:
    """A part by the first of its names: releases of ``transformers`` call it differently."""
    for name in names:
        try:
            return owner.get_submodule(name)
        except AttributeError:
            continue
    raise AttributeError(f"{type(owner).__name__} has none of {names}")


def _pairs(*pairs: tuple[Any, Any]) -> None:
    for theirs, ours in pairs:
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)


def _block(theirs: Any, ours: Any) -> None:
    """A block of ``transformers``, which keeps queries, keys and values apart."""
    attention = theirs.attention
    three = [attention.q_proj, attention.k_proj, attention.v_proj]
    weights, biases = ours.attn.qkv.weight.chunk(3), ours.attn.qkv.bias.chunk(3)
    for linear, weight, bias in zip(three, weights, biases, strict=True):
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    _pairs(
        (attention.o_proj, ours.attn.proj),
        (theirs.layernorm_before, ours.norm1),
        (theirs.layernorm_after, ours.norm2),
        (theirs.mlp.fc1, ours.mlp.fc1),
        (theirs.mlp.fc2, ours.mlp.fc2),
    )


class Lightly(nn.Module):
    """``lightly``'s modules as its example of MAE puts them together.

    Args:
        model: Whose weights it takes.
        ratio: Share of the patches that is hidden.
    """

    def __init__(self, model: MaskedAutoencoder, ratio: float) -> None:
        super().__init__()
        from lightly.models import utils
        from lightly.models.modules import MaskedVisionTransformerTIMM
        from lightly.models.modules.masked_vision_transformer_decoder_timm import (
            MaskedVisionTransformerDecoderTIMM,
        )
        from timm.models.vision_transformer import VisionTransformer

        shape: ModelShape = model.shape
        self.utils, self.shape, self.ratio = utils, shape, ratio
        vit = VisionTransformer(
            img_size=shape.image,
            patch_size=shape.patch,
            embed_dim=shape.width,
            depth=shape.depth,
            num_heads=shape.heads,
            num_classes=0,
            global_pool="",
        )
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        self.decoder_embed = nn.Linear(shape.width, shape.decoder_width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=shape.patches,
            embed_dim=shape.decoder_width,
            depth=shape.decoder_depth,
            num_heads=shape.decoder_heads,
        )
        self.decoder_pred = nn.Linear(shape.decoder_width, shape.patch_values)
        own = model.state_dict()
        vit.load_state_dict({k: v for k, v in own.items() if k in vit.state_dict()})
        inside = {k.removeprefix("decoder_"): v for k, v in own.items()}
        inside |= {"pos_embed": own["decoder_pos_embed"], "mask_token": own["mask_token"]}
        self.decoder.load_state_dict({k: inside[k] for k in self.decoder.state_dict()})
        with torch.no_grad():
            _pairs(
                (self.decoder_embed, model.decoder_embed), (self.decoder_pred, model.decoder_pred)
            )

    def forward(self, images: Tensor, noise: Tensor) -> SimpleNamespace:
        """Hide the patches of the highest noise, and rebuild them.

        Args:
            images: Normalised, (images, 3, side, side).
            noise: (images, patches).

        Returns:
            With ``loss``, a scalar.
        """
        utils, count = self.utils, len(images)
        places = noise.argsort(1) + 1
        kept = self.shape.patches - round(self.shape.patches * self.ratio)
        cls = places.new_zeros(count, 1)
        keep, hide = torch.cat([cls, places[:, :kept]], 1), places[:, kept:]
        latent = self.decoder_embed(self.backbone.encode(images=images, idx_keep=keep))
        tokens = utils.repeat_token(self.decoder.mask_token, (count, self.decoder.sequence_length))
        tokens = utils.set_at_index(tokens, keep, latent.type_as(tokens))
        guessed = self.decoder_pred(utils.get_at_index(self.decoder(tokens), hide))
        wanted = utils.get_at_index(utils.patchify(images, self.shape.patch), hide - 1)
        mean, variance = wanted.mean(-1, keepdim=True), wanted.var(-1, keepdim=True)
        wanted = (wanted - mean) / (variance + 1e-6) ** 0.5
        return SimpleNamespace(loss=nn.functional.mse_loss(guessed, wanted))
