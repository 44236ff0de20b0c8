"""The emoji world's list of concepts; needs no font."""

import hashlib
import json
import unicodedata
from collections import Counter

from san_cli.datasets.emoji.textures import SIDE, VARIANTS, texture
from san_cli.vocabulary.emoji_concepts import BACKGROUND, all_ids, concepts, seen_ids, unseen_ids
from san_cli.vocabulary.terms import check_word


def test_there_are_hundreds_of_them() -> None:
    emoji = [concept.emoji for concept in concepts() if concept.emoji]
    assert len(emoji) >= 330
    assert len(concepts()) - len(emoji) >= 10
    assert len(set(emoji)) == len(emoji)


def test_no_word_means_two_things() -> None:
    words = Counter(word.casefold() for concept in concepts() for word in concept.words)
    assert [word for word, count in words.items() if count > 1] == []
    for word in words:
        check_word(word)
        assert word == word.strip() and "|" not in word and "," not in word and ";" not in word


def test_emoji_are_single_characters_without_flags_and_skin_tones() -> None:
    for concept in concepts():
        if concept.emoji:
            assert len(concept.emoji) == 1, concept.name
            assert unicodedata.category(concept.emoji) in ("So", "Sm", "Cn"), (
                concept.name
            )  # Cn: newer than Python
            assert (
                not 0x1F1E6 <= ord(concept.emoji) <= 0x1F1FF and not 0x1F3FB <= ord(concept.emoji) <= 0x1F3FF
            )


def test_a_third_of_every_category_is_unseen() -> None:
    assert sorted((*seen_ids(), *unseen_ids())) == list(all_ids())
    unseen = Counter(concepts()[i].category for i in unseen_ids())
    sizes = Counter(concept.category for concept in concepts())
    assert unseen.pop(BACKGROUND, 0) == 0 and sizes.pop(BACKGROUND) >= 10
    assert len(sizes) >= 8
    for category, size in sizes.items():
        assert unseen[category] == size // 3, category


def test_ids_are_what_the_shipped_weights_were_trained_on() -> None:
    rows = [[concept.name, *concept.synonyms, concept.emoji, concept.seen] for concept in concepts()]
    digest = hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()
    assert digest == "78da445c4a4e0c9e1fd22a0a8a43996850689b0444f89486bc299728f134d15c", (
        "train the tiny model anew if you mean it"
    )


def test_every_background_can_be_drawn() -> None:
    for concept in concepts():
        if not concept.emoji:
            drawn = texture(concept.name, VARIANTS - 1)
            assert drawn.size == (SIDE, SIDE) and drawn.mode == "RGB"
            assert len(drawn.getcolors(SIDE * SIDE) or ()) > 1, concept.name
