"""Weights: found locally or explained, opened without running what is in them. Rows: a bad one fails alone."""

from __future__ import annotations

import os
import pickle

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from mmrl.records import Sample
from rewards.images.batches import caption_of, rgb, score_in_batches
from rewards.images.loading import load_tensors, weights_file
from rewards.images.towers import open_clip_towers, transformers_towers

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor([1])}


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plain", "state_dict", "module", "safetensors"])
def test_every_form_of_weights_file_gives_the_same_tensors(tmp_path, form):
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(TENSORS, path)
    else:
        prefixed = {f"module.{name}": tensor for name, tensor in TENSORS.items()}
        torch.save(
            {"plain": TENSORS, "state_dict": {"epoch": 3, "state_dict": TENSORS}, "module": prefixed}[form], path
        )
    found = load_tensors(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("save", [torch.save, lambda thing, path: path.write_bytes(pickle.dumps(thing))])
def test_a_file_with_code_is_refused_and_not_run(tmp_path, save):
    path, trace = tmp_path / "weights.pt", tmp_path / "trace"
    save({"state_dict": {"a": Payload(trace)}}, path)
    with pytest.raises(ValueError, match="cannot be opened as plain tensors"):
        load_tensors(path)
    assert not trace.exists()
    torch.load(path, weights_only=False) if save is torch.save else pickle.loads(path.read_bytes())
    assert trace.exists(), "the payload is harmless, so the test says nothing"


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pt"):
        load_tensors(path)


@pytest.mark.parametrize("thing", [[1, 2], {"a": 1}, torch.ones(2)])
def test_what_is_no_state_dict_is_refused(tmp_path, thing):
    torch.save(thing, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="not a state dict"):
        load_tensors(tmp_path / "weights.pt")


def test_a_local_path_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "head.pth").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_file(str(tmp_path / "head.pth"), setting="head") == tmp_path / "head.pth"
    assert weights_file("~/head.pth", setting="head") == tmp_path / "head.pth"


@pytest.mark.parametrize("source", ["head.pth", "./no/such/head.pth", "/no/such/head.pth", "owner/name", "", "a//b"])
def test_a_path_that_is_not_there_is_an_error(source):
    with pytest.raises(ValueError, match=r"head = .* is not a file"):
        weights_file(source, setting="head")


@pytest.mark.parametrize("prefix", ["", "hf-hub:"])
def test_without_network_the_error_says_which_file_to_fetch(prefix):
    with pytest.raises(ValueError, match=r"fetch part/file\.pt from huggingface\.co/owner/name .* set\s+weights to"):
        weights_file(f"{prefix}owner/name/part/file.pt", setting="weights")


# -- models --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "weights", "says"),
    [
        ("ViT-L-14-quickgelu", "openai", "Without network, set model to a local folder"),
        ("hf-hub:owner/name", "", "Without network, set model to a local folder"),
        ("ViT-L-14-quickgel", "openai", "Did you mean ViT-L-14-quickgelu"),
        ("ViT-B-32", "laion2b_s34b_b79", "Did you mean laion2b_s34b_b79k"),
        ("ViT-L-14", "openai", "trained as ViT-L-14-quickgelu"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "neither a local file nor"),
    ],
)
def test_a_model_that_cannot_be_had_is_explained(model, weights, says):
    with pytest.raises(ValueError, match=says):
        open_clip_towers(model, weights, "cpu")


def test_a_folder_without_a_model_is_explained(tmp_path):
    with pytest.raises(ValueError, match=r"open_clip_config\.json"):
        open_clip_towers(str(tmp_path), "", "cpu")
    with pytest.raises(ValueError, match="set model and processor to their folders"):
        transformers_towers(str(tmp_path), str(tmp_path), "cpu")


# -- rows ----------------------------------------------------------------------------------------------------------


def asked(text="a red circle", **target):
    return Sample("s", ({"role": "user", "content": [{"type": "text", "text": text}]},), target=target)


def test_the_caption_is_the_targets_else_the_prompt():
    assert caption_of(asked()) == "a red circle"
    assert caption_of(asked("draw it", caption="a blue star")) == "a blue star"
    with pytest.raises(TypeError, match=r"target\.caption is a text; found 3"):
        caption_of(asked(caption=3))
    for empty in (asked(" "), asked(caption=" "), Sample("s", ())):
        with pytest.raises(ValueError, match=r"target\.caption"):
            caption_of(empty)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_a_bad_row_fails_alone_and_batches_do_not_show(batch_size):
    asked_for = []

    def prepare(number, sample):
        return 60 // number

    def score(rows):
        asked_for.append(len(rows))
        return [-row for row in rows]

    values = score_in_batches([1, 0, 3, 5, 0], [asked()] * 5, prepare, score, batch_size=batch_size)
    assert [values[row] for row in (0, 2, 3)] == [-60, -20, -12]
    assert all(isinstance(values[row], ZeroDivisionError) for row in (1, 4))
    assert sum(asked_for) == 3
    assert max(asked_for) <= batch_size


def test_nothing_to_score_asks_nothing():
    assert score_in_batches([], [], None, None, batch_size=4) == []
    with pytest.raises(ValueError, match="batch_size"):
        score_in_batches([1], [asked()], None, None, batch_size=0)


def test_a_truncated_picture_is_an_error_of_its_own(tmp_path):
    noise = Image.effect_noise((64, 64), 90)
    noise.save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    assert rgb(Image.open(tmp_path / "a.png")).size == (64, 64)
    with pytest.raises(OSError, match="truncated"):
        rgb(Image.open(tmp_path / "b.png"))
