"""The torchvision declaration, each time in a fresh process: it must stand before the first import of torchvision.

What is right depends on the machine: where torchvision's operators fit torch there is nothing to declare.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WITHOUT = """
import json, sys
import torch
seen = {}
try:
    import torchvision
    seen["imports"] = True
except (RuntimeError, ImportError) as error:
    seen["imports"], seen["error"] = False, str(error)
    # As if compiled operators had been loaded: then there is nothing to declare.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from mmrl.compat import declare_torchvision_operators, torchvision_operators_load
seen["load"], seen["declared"] = torchvision_operators_load(), declare_torchvision_operators()
print(json.dumps(seen))
"""

WITH = """
import json
from mmrl.compat import declare_torchvision_operators, torchvision_operators_load
seen = {"load": torchvision_operators_load()}
seen["declared"] = [declare_torchvision_operators(), declare_torchvision_operators()]
import torchvision
from transformers import Qwen3VLProcessor
import qwen_vl_utils
seen["declared"].append(declare_torchvision_operators())
seen["names"] = [Qwen3VLProcessor.__name__, qwen_vl_utils.process_vision_info.__name__]
print(json.dumps(seen))
"""

DECODER = """
import base64, io, json
import torch
from PIL import Image
from mmrl.compat import provide_image_decoder
seen = {"given": [provide_image_decoder(), provide_image_decoder()]}
from torchvision.io import decode_image, image
seen["needed"] = not image._has_image_ops()
def encoded(picture, kind, **settings):
    written = io.BytesIO()
    picture.save(written, kind, **settings)
    return written.getvalue()
picture = Image.frombytes("RGB", (3, 2), bytes(range(18)))
png = encoded(picture, "PNG")
tensor = decode_image(torch.frombuffer(bytearray(png), dtype=torch.uint8), mode=image.ImageReadMode.RGB)
seen["png"] = tensor.permute(1, 2, 0).flatten().tolist()
exif = Image.Exif()
exif[0x0112] = 6  # to be turned by 90 degrees
turned = encoded(picture, "PNG", exif=exif)
upright = decode_image(torch.frombuffer(bytearray(turned), dtype=torch.uint8), apply_exif_orientation=True)
seen["upright"] = list(upright.shape)
from transformers.image_utils import load_image_as_tensor
url = "data:image/png;base64," + base64.b64encode(png).decode()
seen["transformers"] = torch.equal(load_image_as_tensor(url), tensor)
print(json.dumps(seen))
"""


def in_a_fresh_process(script: str) -> dict:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def without():
    return in_a_fresh_process(WITHOUT)


@pytest.fixture(scope="module")
def with_declaration():
    return in_a_fresh_process(WITH)


def test_without_it_torchvision_imports_only_where_its_operators_load(without, with_declaration):
    assert without["imports"] == with_declaration["load"]
    if not without["imports"]:
        assert "torchvision::nms does not exist" in without["error"]


def test_with_it_transformers_and_qwen_vl_utils_import(with_declaration):
    assert with_declaration["names"] == ["Qwen3VLProcessor", "process_vision_info"]


def test_it_declares_once_and_only_where_needed(with_declaration):
    first, *again = with_declaration["declared"]
    assert first == (not with_declaration["load"]) and again == [False, False]


def test_it_does_nothing_where_the_operators_are_there(without):
    assert without["load"] and not without["declared"]


def test_pillow_decodes_pictures_where_torchvision_has_no_operator():
    seen = in_a_fresh_process(DECODER)
    assert seen["given"][0] == seen["needed"]
    assert seen["png"] == list(range(18)) and seen["upright"] == [3, 3, 2] and seen["transformers"]
