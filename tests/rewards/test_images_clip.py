"""CLIP rewards with the model that ships, on freshly drawn pictures; the aesthetic head in its published file form."""

from __future__ import annotations

import math
from random import Random

import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import nn

from data_pipelines.captions.render import paint
from data_pipelines.captions.scenes import Figure, Scene, draw_description, draw_mistake, draw_scene
from mmrl.records import Sample
from rewards.images.clip import aesthetic, aesthetic_scores, affine_head, clip_probability, clip_score
from rewards.images.loading import load_tensors
from rewards.images.tiny import CONTEXT, WORDS, make_tokenizer, tokens, truth
from rewards.images.tiny_measure import measure
from rewards.images.towers import TINY, open_clip_towers
from rewards.scoring import Rewards

WIDTHS = (1024, 128, 64, 16, 1)
CAPTIONS = ("a red circle", "a blue star", "a green square", "a yellow triangle", "a purple cross", "a cyan circle")


def asked(text, **target):
    return Sample("s", ({"role": "user", "content": text},), target=target)


def drawn(caption, seed=0, size=64):
    _, colour, shape = caption.split()
    return paint(Scene((Figure(colour, shape, "large"),), None, "white"), Random(seed), size=size)


@pytest.fixture(scope="module")
def score():
    return clip_score(model="tiny")


# -- the model that ships ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "spoiled", "of_16", "of_2"), [(64, False, 0.9, 0.9), (32, False, 0.9, 0.9), (32, True, 0.65, 0.85)]
)
def test_the_shipped_model_knows_pictures_it_has_not_seen(size, spoiled, of_16, of_2):
    found = measure("tiny", count=400, size=size, spoiled=spoiled)
    assert found["right of 16"] >= of_16
    assert found["gap"] >= 0.4
    assert found["right of 2"] >= of_2
    assert found["score"] > found["score of mistake"] + 0.1


def test_the_shipped_model_is_small():
    assert sum(file.stat().st_size for file in TINY.iterdir()) < 1.5e6


@pytest.mark.parametrize("size", [24, 32, 64, 96, 256])
def test_the_right_caption_scores_highest_at_every_size(score, size):
    pictures = [drawn(caption, seed=size, size=size) for caption in CAPTIONS]
    table = [score([picture] * len(CAPTIONS), [asked(c) for c in CAPTIONS]) for picture in pictures]
    right = sum(max(row) == row[i] for i, row in enumerate(table))
    assert right >= len(CAPTIONS) - (size == 24)


def test_a_half_finished_picture_scores_in_between(score):
    """On average over captions: finished > blurred and noisy > noise alone."""
    draw = torch.Generator().manual_seed(0)
    finished, half, nothing = [], [], []
    for caption in CAPTIONS:
        picture = drawn(caption, size=32)
        static = Image.fromarray(torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=draw).numpy())
        middle = Image.blend(picture.filter(ImageFilter.GaussianBlur(2)), static, 0.6)
        for image, scores in ((picture, finished), (middle, half), (static, nothing)):
            scores += score([image], [asked(caption)])
    mean = [sum(scores) / len(scores) for scores in (finished, half, nothing)]
    assert mean[0] > mean[1] + 0.1 > mean[2] + 0.2


def test_the_tokenizer_knows_the_captions_and_ends_with_the_highest_number():
    tokenizer = make_tokenizer()
    ids = tokens(tokenizer, ["a red circle", "A RED circle", "a grey zeppelin", " ".join(WORDS * 3), ""])
    assert ids.shape == (5, CONTEXT)
    assert torch.equal(ids[0], ids[1])
    assert tokenizer.convert_ids_to_tokens(ids[2])[:5] == ["<start>", "a", "gray", "<unknown>", "<end>"]
    assert (ids.max(1).values == len(tokenizer) - 1).all()


def test_truth_is_describes():
    rng = Random(0)
    scenes = [draw_scene(rng) for _ in range(40)]
    said = [draw_description(rng, scene) for scene in scenes]
    said += [draw_mistake(rng, scene) for scene in said]
    expected = torch.tensor([[description.describes(scene) for description in said] for scene in scenes])
    assert torch.equal(truth(said, scenes), expected)


# -- score ---------------------------------------------------------------------------------------------------------


def test_the_score_is_the_cosine_of_the_models_own_vectors(score):
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{TINY}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{TINY}")
    model.eval()
    picture = drawn("a red circle", size=80)
    with torch.no_grad():
        seen = model.encode_image(transform(picture)[None], normalize=True)
        said = model.encode_text(tokenizer(["a red circle"]), normalize=True)
    assert score([picture], [asked("a red circle")]) == pytest.approx([(seen @ said.T).item()], abs=1e-5)


def test_rows_are_independent_of_batches_and_of_each_other(score):
    pictures = [drawn(caption, seed) for seed in range(3) for caption in CAPTIONS]
    samples = [asked(caption) for caption in (*CAPTIONS, *CAPTIONS[::-1], *CAPTIONS)]
    together = score(pictures, samples)
    apart = clip_score(model="tiny", batch_size=5)(pictures, samples)
    assert together == pytest.approx(apart, abs=1e-5)
    assert all(-1 <= value <= 1 for value in together)


def test_the_target_caption_counts_before_the_prompt(score):
    picture = drawn("a red circle")
    right, wrong = score([picture] * 2, [asked("draw!", caption="a red circle"), asked("draw!", caption="a blue star")])
    assert score([picture], [asked("a red circle", caption=None)]) == pytest.approx([right])
    assert right > wrong


def test_a_picture_that_cannot_be_decoded_fails_alone(score, tmp_path):
    Image.effect_noise((64, 64), 90).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    good = drawn("a red circle")
    rows = [good, Image.open(tmp_path / "b.png"), good, good]
    values = score(rows, [asked("a red circle")] * 3 + [asked(" ")])
    assert isinstance(values[1], OSError)
    assert isinstance(values[3], ValueError)
    assert values[0] == pytest.approx(values[2])


def test_every_text_and_picture_gets_a_value_in_range(score):
    texts = ["x", "nan", "a " * 5000, "🟥🔵", "<end>", '"; DROP', "\x00", "a red circle" * 400]
    pictures = [Image.new(mode, (1, 300)) for mode in ("L", "RGBA", "P", "1")] * 2
    values = score(pictures, [asked(text) for text in texts])
    assert all(isinstance(value, float) and -1 <= value <= 1 for value in values)


def test_a_run_scores_pictures_by_the_shipped_model(make_rollouts):
    """Through the list of rewards, with a thresholded binary version beside the score."""
    specs = [
        {"name": "clip_score", "model": "tiny"},
        {"name": "clip_score", "model": "tiny", "as": "fits", "threshold": 0.5},
        {"name": "clip_probability", "model": "tiny", "labels": list(CAPTIONS), "weight": 0.5},
    ]
    rewards = Rewards.from_config(specs, where="test", max_failed=0.5)
    images = [drawn("a red circle"), drawn("a blue star"), drawn("a blue star", 1), "broken"]
    rollouts = make_rollouts([0.0] * 4, [0, 0, 1, 1], images=images)
    rollouts.samples = [asked("a red circle"), asked("a blue star")]
    rewards.score(rollouts, step=0, total=1)
    assert rollouts.scores["fits"].tolist()[:3] == [1, 0, 1]
    assert rollouts.scores["clip_probability"][0] > 0.5 > rollouts.scores["clip_probability"][1]
    assert rollouts.reward[3].isnan()
    assert "reads pictures" in rollouts.notes[3]["clip_score"]["error"]
    assert open_clip_towers("tiny", "openai", "cpu") is open_clip_towers("tiny", "openai", "cpu")


# -- probability ---------------------------------------------------------------------------------------------------


def test_probability_is_a_softmax_over_the_captions():
    towers = open_clip_towers("tiny", "openai", "cpu")
    reward = clip_probability(model="tiny", batch_size=2)
    picture = drawn("a red circle")
    cosines = torch.tensor([towers.cosines([towers.prepare(picture)], [caption])[0] for caption in CAPTIONS])
    expected = (towers.scale * cosines).softmax(0).tolist()
    samples = [asked(caption, captions=CAPTIONS) for caption in CAPTIONS]
    scores = reward([picture] * len(samples), samples)
    assert [score.value for score in scores] == pytest.approx(expected, abs=1e-5)
    assert sum(score.value for score in scores) == pytest.approx(1, abs=1e-5)
    assert scores[0].why == ""
    assert scores[1].why == "looks more like 'a red circle'"


def test_the_caption_joins_the_others_and_order_does_not_matter():
    reward = clip_probability(model="tiny", labels=CAPTIONS[1:])
    picture = drawn("a red circle")
    listed = [CAPTIONS[1:], CAPTIONS, CAPTIONS[::-1], (*CAPTIONS, *CAPTIONS)]
    values = [score.value for score in reward([picture] * 4, [asked(CAPTIONS[0], captions=list(c)) for c in listed])]
    assert values == pytest.approx([reward([picture], [asked(CAPTIONS[0])])[0].value] * 4, abs=1e-6)


@pytest.mark.parametrize("captions", ["a red circle", [1, 2], [], ["a red circle"]])
def test_wrong_captions_are_an_error_of_their_row(captions):
    (value,) = clip_probability(model="tiny")([drawn("a red circle")], [asked("a red circle", captions=captions)])
    assert isinstance(value, (TypeError, ValueError))
    assert "target.captions" in str(value)


# -- aesthetic -----------------------------------------------------------------------------------------------------


def head_layers(width, seed=0):
    torch.manual_seed(seed)
    sizes = zip((width, *WIDTHS), WIDTHS, strict=False)
    dropouts = iter((0.2, 0.2, 0.1))
    layers = []
    for inside, outside in sizes:
        layers.append(nn.Linear(inside, outside))
        if outside in (1024, 128, 64):
            layers.append(nn.Dropout(next(dropouts)))
    return nn.Sequential(*layers).eval()


def state(layers):
    return {f"layers.{name}": tensor for name, tensor in layers.state_dict().items()}


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_the_head_multiplied_out_is_the_head(tmp_path, form):
    layers = head_layers(768)
    assert set(state(layers)) == {f"layers.{n}.{part}" for n in (0, 2, 4, 6, 7) for part in ("weight", "bias")}
    path = tmp_path / f"head.{form}"
    (save_file if form == "safetensors" else torch.save)(state(layers), path)
    weight, bias = affine_head(load_tensors(path), where="head")
    vectors = nn.functional.normalize(torch.randn(20, 768), dim=-1)
    with torch.no_grad():
        expected = layers(vectors)[:, 0].double()
    assert torch.allclose(aesthetic_scores(vectors, weight, bias), expected, atol=1e-5)


def test_golden_aesthetic_v2_head_on_unit_vectors():
    """Vector aesthetic_v2_head_on_unit_vectors. The published file is not in the repository: these layers are made to
    have the five numbers that are known of its product, and the file form and arithmetic are the same."""
    e0, e767, ones, bias, norm = 4.5450524, 5.45165402, 4.88328485, 5.23664584, 17.9956248
    weight = torch.zeros(768, dtype=torch.float64)
    weight[0], weight[767] = e0 - bias, e767 - bias
    rest = (ones - bias) * math.sqrt(768) - weight.sum().item()
    weight[1:767] = rest / 766
    swing = math.sqrt((norm**2 - (weight**2).sum().item()) / 766)
    weight[1:767] += swing * torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(383)
    layers = head_layers(768).double()
    with torch.no_grad():
        # Whatever the last four layers do, the first is solved so that the product is the known one.
        outer, shift = affine_head({k: v for k, v in state(layers).items() if not k.startswith("layers.0")}, where="")
        layers[0].weight.copy_(outer[:, None] * weight / (outer @ outer))
        layers[0].bias.copy_(outer * (bias - shift) / (outer @ outer))
    found, offset = affine_head(state(layers), where="head")
    vectors = torch.zeros(3, 768)
    vectors[0] = 1 / math.sqrt(768)
    vectors[1, 0] = vectors[2, 767] = 1
    assert aesthetic_scores(vectors, found, offset).tolist() == pytest.approx([ones, e0, e767], abs=1e-6)
    assert offset == pytest.approx(bias, abs=1e-8)
    assert found.norm().item() == pytest.approx(norm, rel=1e-8)


def test_aesthetic_scores_the_unit_vector_of_the_picture(tmp_path):
    layers = head_layers(96)
    torch.save(state(layers), tmp_path / "head.pth")
    reward = aesthetic(head=str(tmp_path / "head.pth"), model="tiny", batch_size=2)
    towers = open_clip_towers("tiny", "openai", "cpu")
    pictures = [drawn(caption) for caption in CAPTIONS[:3]]
    with torch.no_grad():
        expected = layers(towers.pictures([towers.prepare(picture) for picture in pictures]))[:, 0].tolist()
    values = reward([*pictures, "broken"], [asked("")] * 4)  # it needs no caption
    assert values[:3] == pytest.approx(expected, abs=1e-5)
    assert isinstance(values[3], TypeError)


def test_a_head_that_does_not_fit_is_explained(tmp_path):
    torch.save(state(head_layers(768)), tmp_path / "head.pth")
    with pytest.raises(ValueError, match="reads 768 numbers; the vectors of tiny have 96"):
        aesthetic(head=str(tmp_path / "head.pth"), model="tiny")
    with pytest.raises(ValueError, match=r"no aesthetic head: its tensors are conv\.bias"):
        affine_head({"conv.bias": torch.ones(1)}, where="head = x")
    with pytest.raises(ValueError, match=r"fetch aesthetic-model\.pth"):
        aesthetic(model="tiny")
