"""mmsegmentation's names and shapes of SAN's tensors, translated into the official ones.

Its files have no class weights and no causal mask, and may lack CLIP's text tower: the classes' embeddings are then
computed once and kept in no file.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

_IMAGE, _SIDE = "clip_visual_extractor", "side_adapter_network"
_HEAD, _REC = "decode_head.side_adapter_network", "decode_head.rec_with_attnbias"
_BLOCK = [  # an MMCV transformer layer's parts, and CLIP's names for them
    (r"norms\.0\.", "ln_1."),
    (r"norms\.1\.", "ln_2."),
    (r"attentions\.0\.attn\.", "attn."),
    (r"ffns\.0\.layers\.0\.0\.", "mlp.c_fc."),
    (r"ffns\.0\.layers\.1\.", "mlp.c_proj."),
]
_PLAIN = {  # a name or the beginning of one
    "image_encoder.cls_token": f"{_IMAGE}.class_embedding",
    "image_encoder.pos_embed": f"{_IMAGE}.positional_embedding",
    "image_encoder.patch_embed.projection.weight": f"{_IMAGE}.conv1.weight",
    "image_encoder.ln_pre.": f"{_IMAGE}.ln_pre.",
    f"{_HEAD}.pos_embed": f"{_SIDE}.vit_model.pos_embed",
    f"{_HEAD}.patch_embed.projection.": f"{_SIDE}.vit_model.patch_embed.proj.",
    f"{_HEAD}.query_embed": f"{_SIDE}.query_embed",
    f"{_HEAD}.query_pos_embed": f"{_SIDE}.query_pos_embed",
    f"{_HEAD}.mask_decoder.": f"{_SIDE}.mask_decoder.",
    f"{_REC}.proj.weight": "clip_rec_head.proj",
    f"{_REC}.ln_post.": "clip_rec_head.ln_post.",
    "text_encoder.": "ov_classifier.",
}
_LAYERS = [  # (pattern, official), before the plain ones
    (r"image_encoder\.layers\.(\d+)\.ln([12])\.", rf"{_IMAGE}.resblocks.\1.ln_\2."),
    (r"image_encoder\.layers\.(\d+)\.attn\.attn\.", rf"{_IMAGE}.resblocks.\1.attn."),
    (r"image_encoder\.layers\.(\d+)\.ffn\.layers\.0\.0\.", rf"{_IMAGE}.resblocks.\1.mlp.c_fc."),
    (r"image_encoder\.layers\.(\d+)\.ffn\.layers\.1\.", rf"{_IMAGE}.resblocks.\1.mlp.c_proj."),
    (rf"{_HEAD}\.encode_layers\.(\d+)\.ln([12])\.", rf"{_SIDE}.vit_model.blocks.\1.norm\2."),
    (rf"{_HEAD}\.encode_layers\.(\d+)\.attn\.attn\.in_proj_", rf"{_SIDE}.vit_model.blocks.\1.attn.qkv."),
    (rf"{_HEAD}\.encode_layers\.(\d+)\.attn\.attn\.out_proj\.", rf"{_SIDE}.vit_model.blocks.\1.attn.proj."),
    (rf"{_HEAD}\.encode_layers\.(\d+)\.ffn\.layers\.0\.0\.", rf"{_SIDE}.vit_model.blocks.\1.mlp.fc1."),
    (rf"{_HEAD}\.encode_layers\.(\d+)\.ffn\.layers\.1\.", rf"{_SIDE}.vit_model.blocks.\1.mlp.fc2."),
    (rf"{_HEAD}\.conv_clips\.(\d+)\.0\.", rf"{_SIDE}.fusion_layers.layer_\1.input_proj.0."),
    (rf"{_HEAD}\.conv_clips\.(\d+)\.1\.conv\.", rf"{_SIDE}.fusion_layers.layer_\1.input_proj.1."),
    *((rf"{_REC}\.layers\.(\d+)\.{part}", rf"clip_rec_head.resblocks.\1.{ours}") for part, ours in _BLOCK),
    *(
        (rf"text_encoder\.transformer\.(\d+)\.{part}", rf"ov_classifier.transformer.resblocks.\1.{ours}")
        for part, ours in _BLOCK
    ),
]


def is_mmseg(names: Iterable[str]) -> bool:
    """Tell whether these are mmsegmentation's names of a SAN's tensors."""
    return any(name.startswith((f"{_HEAD}.", "image_encoder.layers.")) for name in names)


def official_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the tensors the official names and shapes; those of losses and of its preprocessing are left out."""
    found = {}
    for name, tensor in state.items():
        if name.startswith(("decode_head.loss", "data_preprocessor.", "criterion.")):
            continue
        official = _official(name)
        if official == "clip_rec_head.proj":
            tensor = tensor.mT
        elif official in (f"{_IMAGE}.class_embedding", f"{_IMAGE}.positional_embedding"):
            tensor = tensor.flatten(0, -2).squeeze(0) if tensor.ndim == 3 else tensor
        found[official] = tensor
    return found


def _official(name: str) -> str:
    for pattern, official in _LAYERS:
        if re.match(pattern, name):
            return re.sub(pattern, official, name)
    for start, official in _PLAIN.items():
        if name == start or (start.endswith(".") and name.startswith(start)):
            return official + name[len(start) :]
    return name
