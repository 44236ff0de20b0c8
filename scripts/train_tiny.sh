#!/bin/sh
# The bundled `tiny` model from nothing: a CLIP on captions of emoji pictures, then its side adapter on masks of the
# seen concepts. Needs the font (Debian: fonts-noto-color-emoji) and no network. Run again to go on after an
# interruption; every step keeps its state in the folder.
#
#   scripts/train_tiny.sh [FOLDER]        (default: runs/tiny)
set -eu
cd "$(dirname "$0")/.."
out=${1:-runs/tiny}
mkdir -p "$out"
export OMP_WAIT_POLICY=passive  # threads that wait don't burn the cores that render

# 1. CLIP: two towers, contrastive, captions over all concepts; no masks.
python scripts/train_tiny_clip.py --out "$out/clip"

# 2. SAN: CLIP frozen, mask labels of the seen two thirds only. The scenes vary by themselves: no augmentation.
san train emoji --model tiny --clip-weights "$out/clip/tiny_clip.safetensors" -o "$out/san" --resume \
  --batch 16 --iterations 2400 --lr 1e-3 --set points=1024 --set 'short_side_choices=[640]' \
  --set colour_jitter=false --set flip=0 --save-every 100 --eval-every 400 --eval-images 60

# 3. New scenes, all concepts competing: mIoU_seen, mIoU_unseen and mIoU.
san eval emoji --weights "$out/san/model.safetensors" --json
