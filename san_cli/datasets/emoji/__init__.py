"""The emoji world: scenes of emoji on named textures, rendered by seed, with pixel-exact labels.

Everything in it is named, endless and free of other people's photographs, so that a small CLIP and a side
adapter can be trained and judged on it from nothing: open vocabulary in miniature.

How the concepts (`vocabulary/emoji.json`) were chosen, from all single-character emoji of the Noto Color Emoji font:

- what one would point at and name: animals, plants, food, vehicles, buildings, things. No flags, no skin tones,
  no letters, arrows and signs, no sequences of several characters;
- told apart at 32 px, judged by eye on a contact sheet: of each group that looks alike (clock faces, moon phases,
  smileys, papers and clipboards, balls of one colour, guitar and banjo, wolf and raccoon) one is kept;
- a name that a stranger would use, with up to three synonyms; no word belongs to two concepts.

The backgrounds are procedural textures with names of their own, "stuff" beside the emoji's "things".

Seen and unseen: within each category, every third emoji in the file's order is unseen (the third, the sixth, …),
all other emoji and all backgrounds are seen. Mask labels of unseen concepts are for evaluation only.
"""
