"""The tower's teacher: what every vision token should say of a picture, and that only the tower learns it."""

from __future__ import annotations

from random import Random

import pytest
import torch
from PIL import Image

from data_pipelines.gui.shapes import COLOURS
from mmrl.policies.tiny import make_processor, save_untrained
from mmrl.policies.tiny_vision import HEADS, KINDS, PAINTERS, Picture, Thing, answers_of, encode, pretrain


def test_each_cell_says_what_covers_most_of_it():
    image = Image.new("RGB", (64, 64))
    bar = Thing("bar", "red", (20, 18, 30, 60))  # three cells of column 1, the centre in row 2
    answers = answers_of(Picture((image, image), [bar, Thing("tree", None, (50, 2, 58, 10))]))
    told = {name: answers[:, i].view(4, 4) for i, name in enumerate(HEADS)}
    nothing = len(COLOURS)
    red = list(COLOURS).index("red")
    assert told["colour"][:, 1].tolist() == [nothing, red, red, red]
    assert told["kind"][:, 1].tolist() == [-1] + 3 * [KINDS.index("bar")]
    assert told["y"][1:, 1].tolist() == [39, 39, 39] and told["x"][1:, 1].tolist() == [25, 25, 25]
    assert told["centres"].nonzero().tolist() == [[0, 3], [2, 1]]
    assert (told["colour"][0, 3], told["kind"][0, 3]) == (nothing, KINDS.index("tree"))


def test_places_are_in_64ths_whatever_the_size():
    frame = Image.new("RGB", (32, 32))
    answers = answers_of(Picture((frame, frame), [Thing("cross", "blue", (16, 0, 32, 16), moves=True)]))
    assert answers[1].tolist() == [list(COLOURS).index("blue"), KINDS.index("cross"), 48, 16, 1, 1]
    assert answers[2].tolist() == [len(COLOURS), -1, -1, -1, -1, 0]


@pytest.mark.parametrize("paint", PAINTERS, ids=lambda paint: paint.__name__)
def test_every_painter_has_an_answer_for_each_token(paint):
    rng = Random(0)
    pictures = [paint(rng) for _ in range(40)]
    pixels, grids, answers = encode(pictures, make_processor())
    assert len(pixels) == int(grids.prod(1).sum()) == 4 * len(answers)
    for column, classes in zip(answers.unbind(1), HEADS.values(), strict=True):
        assert int(column.min()) >= -1 and int(column.max()) < classes
    assert (answers[:, 1] >= 0).any()


def test_a_clip_that_moves_is_told_from_one_that_rests():
    pictures = [PAINTERS[3](Random(seed)) for seed in range(60)]
    for picture in pictures:
        same = picture.frames[0].tobytes() == picture.frames[1].tobytes()
        assert same == (not any(thing.moves for thing in picture.things))


def test_the_tower_learns_and_nothing_else_moves(tmp_path):
    from safetensors.torch import load_file

    save_untrained(tmp_path / "before")
    pretrain(tmp_path / "before", tmp_path / "after", steps=2, batch=4)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("before", "after"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(".visual." in name for name in moved)
