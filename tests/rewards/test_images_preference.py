"""Preference models, as their real classes with few and random weights, in the file forms they are published in."""

from __future__ import annotations

import json
import math
import sys
import types
from typing import get_args

import pytest
import torch
from PIL import Image
from torch import nn

from mmrl.compat import declare_torchvision_operators
from mmrl.records import Sample
from rewards.images import preference
from rewards.images.preference import (
    MEAN,
    STD,
    PickScale,
    fit_and_pad,
    hps,
    image_reward,
    image_reward_normalised,
    pickscore,
    pickscore_scaled,
    videoalign_raw,
)

declare_torchvision_operators()
open_clip = pytest.importorskip("open_clip")

NAME = "mmrl-test-ViT-H-14"
WORDS = ["a", "red", "blue", "circle", "star"]


def asked(text):
    return Sample("s", ({"role": "user", "content": text},))


def noise(seed, size=(40, 30)):
    draw = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=draw)
    return Image.fromarray(pixels.numpy())


ROWS = [
    (noise(0), asked("a red circle")),
    (noise(1, (30, 40)), asked("a blue star")),
    (noise(2), asked("a red circle")),
    (noise(3, (200, 8)), asked("the moon")),
]
IMAGES, SAMPLES = [image for image, _ in ROWS], [sample for _, sample in ROWS]


# -- conventions ---------------------------------------------------------------------------------------------------


def test_golden_clip_family_scalings():
    """Vector clip_family_scalings: cos 0.21, scale 100."""
    expected = {"cosine": 0.21, "logit": 21.0, "flow_grpo": 0.807692308, "mixgrpo": 0.375}
    assert set(expected) == set(get_args(PickScale))
    for scale, value in expected.items():
        assert pickscore_scaled(0.21, 100.0, scale) == pytest.approx(value, abs=1e-9)


def test_golden_imagereward_normalisation_and_videoalign_denorm():
    """Vectors imagereward_normalisation (its constants are rounded) and videoalign_denorm."""
    assert image_reward_normalised(1.0) == pytest.approx(0.805956198, abs=1e-7)
    assert videoalign_raw(1.0, 1.0) == pytest.approx((5.9233, 2.5457), abs=1e-9)
    assert videoalign_raw(0.0, 0.0) == (3.6757, 1.1646)


# -- HPS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(60, 20), (20, 60), (33, 32), (32, 16), (5, 200), (300, 1), (32, 32), (8, 8)])
def test_a_picture_is_fitted_whole_and_padded_with_black(size):
    """Against the same thing built from torch's own interpolation."""
    side = 32
    image = noise(0, size)
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    pixels = torch.tensor(list(image.convert("RGB").tobytes()), dtype=torch.float32)
    pixels = pixels.view(size[1], size[0], 3).permute(2, 0, 1) / 255
    width, height = (max(1, round(length * side / max(size))) for length in size)
    if max(size) != side:
        pixels = nn.functional.interpolate(pixels[None], (height, width), mode="bicubic", antialias=True)[0]
    expected = torch.zeros(3, side, side)
    left, top = (side - width) // 2, (side - height) // 2
    expected[:, top : top + height, left : left + width] = pixels
    assert torch.allclose(fit_and_pad(image, side), (expected - mean) / std, atol=1e-5)


def test_overshoot_of_the_bicubic_kernel_is_kept():
    edge = Image.new("RGB", (16, 16), "black")
    edge.paste("white", (0, 0, 8, 16))
    pixels = fit_and_pad(edge, 64) * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]
    assert pixels.max() > 1.01
    assert pixels.min() < -0.01


def small(config):
    """A config of open_clip with the same parts, few and narrow."""
    config = json.loads(json.dumps(config))
    config["embed_dim"] = 24
    config["vision_cfg"] |= {"image_size": 56, "layers": 2, "width": 32, "head_width": 16}
    config["text_cfg"] |= {"width": 24, "heads": 2, "layers": 2}
    return config


@pytest.fixture(scope="module")
def hps_file(tmp_path_factory):
    """HPS_v2.1_compressed.pt with a small ViT-H-14, and that model."""
    folder = tmp_path_factory.mktemp("hps")
    (folder / f"{NAME}.json").write_text(json.dumps(small(open_clip.get_model_config("ViT-H-14"))))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    model = open_clip.create_model(NAME).eval()
    path = folder / "HPS_v2.1_compressed.pt"
    torch.save({"epoch": 1, "state_dict": model.state_dict()}, path)
    return path, model


def test_the_small_model_has_the_layout_of_the_real_one(hps_file):
    with torch.device("meta"):
        real = open_clip.model.CLIP(**open_clip.get_model_config("ViT-H-14"))
    real_names = {name for name in real.state_dict() if not any(f"resblocks.{i}." in name for i in range(2, 40))}
    assert real_names == set(hps_file[1].state_dict())


def test_hps_is_the_cosine_of_the_fitted_picture_and_the_caption(hps_file, monkeypatch):
    path, model = hps_file
    monkeypatch.setattr(preference, "HPS_ARCHITECTURE", NAME)
    values = hps(weights=str(path), batch_size=3)(IMAGES, SAMPLES)
    tokenizer = open_clip.get_tokenizer("ViT-H-14")
    with torch.no_grad():
        for (image, sample), value in zip(ROWS, values, strict=True):
            seen = model.encode_image(fit_and_pad(image, 56)[None])[0]
            said = model.encode_text(tokenizer([sample.prompt]))[0]
            assert value == pytest.approx(torch.cosine_similarity(seen, said, dim=0).item(), abs=1e-5)
    assert len({round(value, 6) for value in values}) == len(values)


def test_hps_fails_bad_rows_alone_and_refuses_other_weights(hps_file, monkeypatch, tmp_path):
    path, model = hps_file
    monkeypatch.setattr(preference, "HPS_ARCHITECTURE", NAME)
    scorer = hps(weights=str(path))
    good = scorer(IMAGES, SAMPLES)
    values = scorer([IMAGES[0], "no picture", *IMAGES[1:]], [SAMPLES[0], *SAMPLES])
    assert isinstance(values[1], TypeError)
    assert [values[0], *values[2:]] == pytest.approx(good, abs=1e-6)
    torch.save(
        {name: tensor for name, tensor in model.state_dict().items() if name != "ln_final.bias"}, tmp_path / "w.pt"
    )
    with pytest.raises(ValueError, match=r"ln_final\.bias"):
        hps(weights=str(tmp_path / "w.pt"))


def test_hps_offline_says_what_to_fetch():
    with pytest.raises(ValueError, match=r"fetch HPS_v2\.1_compressed\.pt from huggingface\.co/xswu/HPSv2"):
        hps()


# -- PickScore -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pick_folder(tmp_path_factory):
    """A folder with a CLIP of transformers, its image processor and its tokenizer."""
    import transformers as hf

    folder = str(tmp_path_factory.mktemp("pickscore"))
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = {word: i for i, word in enumerate(["<|startoftext|>", *letters, *(f"{c}</w>" for c in letters)])}
    vocabulary["<|endoftext|>"] = len(vocabulary)
    tokenizer = hf.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    ids = {"bos_token_id": 0, "eos_token_id": len(vocabulary) - 1, "pad_token_id": len(vocabulary) - 1}
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hf.CLIPConfig(
        text_config={**tower, "vocab_size": len(vocabulary), "max_position_embeddings": 77, **ids},
        vision_config={**tower, "image_size": 32, "patch_size": 8},
        projection_dim=24,
        logit_scale_init_value=math.log(100),
    )
    torch.manual_seed(0)
    hf.CLIPModel(config).save_pretrained(folder)
    images = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    hf.CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def test_pickscore_is_the_models_own_logit(pick_folder):
    import transformers as hf

    model, processor = hf.CLIPModel.from_pretrained(pick_folder).eval(), hf.AutoProcessor.from_pretrained(pick_folder)
    expected = []
    for image, sample in ROWS:
        inputs = processor(text=[sample.prompt], images=[image], padding=True, return_tensors="pt")
        with torch.no_grad():
            expected.append(model(**inputs).logits_per_image.item())
    assert len({round(value, 4) for value in expected}) == len(expected)
    for scale, change in {"logit": 1.0, "cosine": 1 / 100, "flow_grpo": 1 / 26}.items():
        scorer = pickscore(model=pick_folder, processor=pick_folder, scale=scale, batch_size=3)
        assert scorer(IMAGES, SAMPLES) == pytest.approx([value * change for value in expected], rel=1e-3, abs=1e-5)


def test_each_picture_is_scored_with_its_own_caption(pick_folder):
    """DanceGRPO's script scores every prompt's pictures against the first prompt."""
    scorer = pickscore(model=pick_folder, processor=pick_folder)
    together = scorer(IMAGES, SAMPLES)
    apart = [scorer([image], [sample])[0] for image, sample in ROWS]
    assert together == pytest.approx(apart, abs=1e-5)
    turned = scorer(IMAGES[::-1], SAMPLES[::-1])
    assert turned[::-1] == pytest.approx(together, abs=1e-5)


def test_pickscore_fails_bad_rows_alone_and_explains_missing_weights(pick_folder):
    scorer = pickscore(model=pick_folder, processor=pick_folder)
    values = scorer([IMAGES[0], None], [SAMPLES[0], SAMPLES[1]])
    assert isinstance(values[1], TypeError)
    assert values[0] == pytest.approx(scorer(IMAGES[:1], SAMPLES[:1])[0], abs=1e-6)
    with pytest.raises(ValueError, match="set model and processor to their folders"):
        pickscore()


# -- ImageReward ---------------------------------------------------------------------------------------------------


class FakeBlip(nn.Module):
    """Reads the first pixel and the length of the text, in the shapes of BLIP."""

    def tokenizer(self, texts, *, padding, truncation, max_length, return_tensors):
        assert (padding, truncation, max_length, return_tensors) == ("max_length", True, 35, "pt")
        from transformers import BatchEncoding

        ids = torch.tensor([[len(text)] + [0] * (max_length - 1) for text in texts])
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids > 0).long()})

    def visual_encoder(self, pixels):
        return pixels[:, 0, :1, :1].expand(-1, 5, 768)

    def text_encoder(self, ids, *, attention_mask, encoder_hidden_states, encoder_attention_mask, return_dict):
        assert encoder_attention_mask.shape == encoder_hidden_states.shape[:2]
        first = ids[:, :1].float() + encoder_hidden_states[:, 0, :1]
        return types.SimpleNamespace(last_hidden_state=first[:, None].expand(-1, 35, 768))


def fake_package(monkeypatch, **loaded):
    model = types.SimpleNamespace(
        blip=FakeBlip(),
        mlp=lambda features: features[:, :1],
        preprocess=lambda image: torch.full((3, 224, 224), image.getpixel((0, 0))[0] / 255),
    )

    def load(name, device, med_config):
        loaded.update(name=name, device=device, med_config=med_config)
        if name.endswith(".pt"):
            raise FileNotFoundError(name)
        return model

    monkeypatch.setitem(sys.modules, "ImageReward", types.SimpleNamespace(load=load))
    return loaded


def test_image_reward_reads_the_package_in_batches(monkeypatch):
    fake_package(monkeypatch)
    values = image_reward(batch_size=3)(IMAGES, SAMPLES)
    raw = [len(sample.prompt) + image.getpixel((0, 0))[0] / 255 for image, sample in ROWS]
    assert values == pytest.approx([image_reward_normalised(value) for value in raw], rel=1e-6)


def test_image_reward_without_package_or_weights_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "ImageReward", None)
    with pytest.raises(ValueError, match="mmrl rewards serve image_reward"):
        image_reward()
    fake_package(monkeypatch)
    with pytest.raises(ValueError, match=r"fetch ImageReward\.pt and med_config\.json"):
        image_reward(weights="missing.pt")
