"""The official checkpoints' names for our tensors (MendelXu/SAN, detectron2 format)."""

import re

from san_cli.models.presets import Preset

# Known and not needed: the loss's class weights and CLIP's causal mask, which both follow from the preset.
IGNORED = frozenset({"criterion.empty_weight", "ov_classifier.attn_mask"})

_RENAMED = {
    "background_embedding": "ov_classifier.bg_embed",
    "logit_scale": "ov_classifier.logit_scale",
    "side_adapter.query_embed": "side_adapter_network.query_embed",
    "side_adapter.query_positions": "side_adapter_network.query_pos_embed",
    "side_adapter.positions": "side_adapter_network.vit_model.pos_embed",
    "visual.proj": "clip_rec_head.proj",
}
_REWRITTEN = [  # (our name, official name), first match wins
    (r"side_adapter\.patch_embed\.(.*)", r"side_adapter_network.vit_model.patch_embed.proj.\1"),
    (
        r"side_adapter\.blocks\.(\d+)\.(qkv|proj)\.(.*)",
        r"side_adapter_network.vit_model.blocks.\1.attn.\2.\3",
    ),
    (r"side_adapter\.blocks\.(\d+)\.(fc1|fc2)\.(.*)", r"side_adapter_network.vit_model.blocks.\1.mlp.\2.\3"),
    (r"side_adapter\.blocks\.(.*)", r"side_adapter_network.vit_model.blocks.\1"),
    (
        r"side_adapter\.fusions\.(\d+)\.norm\.(.*)",
        r"side_adapter_network.fusion_layers.layer_\1.input_proj.0.\2",
    ),
    (
        r"side_adapter\.fusions\.(\d+)\.project\.(.*)",
        r"side_adapter_network.fusion_layers.layer_\1.input_proj.1.\2",
    ),
    (r"mask_decoder\.pixel_mlp\.(.*)", r"side_adapter_network.mask_decoder.pix_mlp.\1"),
    (r"mask_decoder\.bias_mlp\.(.*)", r"side_adapter_network.mask_decoder.attn_mlp.\1"),
    (r"mask_decoder\.(.*)", r"side_adapter_network.mask_decoder.\1"),
    (r"visual\.ln_post\.(.*)", r"clip_rec_head.ln_post.\1"),
    (r"visual\.(.*)", r"clip_visual_extractor.\1"),
    (r"text\.(.*)", r"ov_classifier.\1"),
]
_CLIP_BLOCK = re.compile(r"visual\.transformer\.resblocks\.(\d+)\.(.*)")


def official_name(name: str, preset: Preset) -> str:
    """Translate our tensor's `name` into the official one.

    The official code splits CLIP's image tower: the blocks up to the recognition head keep their numbers in
    `clip_visual_extractor`, the rest are counted from 0 again in `clip_rec_head`.
    """
    if name in _RENAMED:
        return _RENAMED[name]
    if block := _CLIP_BLOCK.fullmatch(name):
        start = preset.clip.layers - preset.recognition_layers
        number = int(block[1])
        part, number = (
            ("clip_visual_extractor", number) if number < start else ("clip_rec_head", number - start)
        )
        return f"{part}.resblocks.{number}.{block[2]}"
    for ours, official in _REWRITTEN:
        if re.fullmatch(ours, name):
            return re.sub(ours, official, name)
    raise KeyError(name)
