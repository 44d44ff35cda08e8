"""ScreenSpot annotations: the two box conventions are read as what they are, and never mistaken silently."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from data_pipelines.dataset import read_samples
from data_pipelines.gui.screenspot import make_screenspot, read_screenspot
from mmrl.plugins import ConfigError

V1 = {"img_filename": "m.png", "bbox": [10, 20, 100, 40], "instruction": "tap Save", "data_type": "text",
      "data_source": "ios"}  # fmt: skip
PRO = {"img_filename": "cad/3.png", "bbox": [300, 120, 340, 150], "instruction": "measure tool", "id": "cad_3",
       "application": "autocad", "platform": "windows", "img_size": [384, 216], "ui_type": "icon",
       "group": "CAD"}  # fmt: skip


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images/cad").mkdir(parents=True)
    Image.new("RGB", (120, 200)).save(tmp_path / "images/m.png")
    Image.new("RGB", (384, 216)).save(tmp_path / "images/cad/3.png")
    return tmp_path / "images"


def annotate(path, *entries):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize(
    ("name", "source"), [("screenspot_mobile", "screenspot"), ("screenspot_mobile_v2", "screenspot-v2")]
)
def test_v1_and_v2_hold_width_and_height(tmp_path, images, name, source):
    annotations = str(annotate(tmp_path / f"{name}.json", V1))
    paths = make_screenspot(tmp_path / "out", annotations=annotations, images=str(images))
    (sample,) = read_samples(paths["test"])
    assert sample.target == {"box": [10, 20, 110, 60], "point": [60, 40]}
    assert sample.meta == {
        "task": "gui",
        "source": source,
        "data_type": "text",
        "data_source": "ios",
        "coordinates": "pixel",
    }
    assert sample.id.startswith(f"{name}-00001@")
    assert "tap Save" in sample.messages[0]["content"][1]["text"]


def test_pro_holds_corners_and_comes_in_a_folder(tmp_path, images):
    annotate(tmp_path / "pro/b.json", PRO), annotate(tmp_path / "pro/a.json", PRO | {"id": "first"})
    rows = read_screenspot(tmp_path / "pro", images, prompt="{instruction}?", coordinates="seen")
    assert [row["id"] for row in rows] == ["first", "cad_3"]
    assert rows[1]["target"] == {"box": [300, 120, 340, 150], "point": [320, 135]}
    assert rows[1]["meta"] == {
        "task": "gui", "source": "screenspot-pro", "data_type": "icon", "platform": "windows",
        "application": "autocad", "group": "CAD", "ui_type": "icon", "coordinates": "seen",
    }  # fmt: skip
    assert rows[1]["messages"][0]["content"][1]["text"] == "measure tool?"


@pytest.mark.parametrize(
    ("entry", "variant", "said"),
    [
        (V1 | {"img_filename": "none.png"}, "v1", "none.png does not exist"),
        (V1 | {"bbox": [10, 20, 111, 40]}, "v1", "does not lie in the image of 120x200"),
        (V1 | {"bbox": [10, 20, 0, 40]}, "v1", "does not lie in the image"),
        (V1 | {"bbox": [10, 20]}, "v1", "unpack"),
        (PRO, "v1", "read as .x, y, width, height. .v1."),
        ({key: value for key, value in V1.items() if key != "instruction"}, "v1", "there is no 'instruction'"),
        (V1, "pro", "there is no 'img_size'; is this screenspot-pro"),
        (PRO | {"img_size": [3840, 2160]}, "auto", "img_size is .3840, 2160., but the image is 384x216"),
        (PRO | {"bbox": [300, 120, 40, 30]}, "auto", "read as .x1, y1, x2, y2. .pro."),
    ],
)
def test_a_bad_annotation_is_named(tmp_path, images, entry, variant, said):
    good = PRO if "img_size" in entry and variant == "auto" else V1
    entries = [good, entry] if variant != "pro" else [PRO, entry]
    path = annotate(tmp_path / "screenspot.json", *entries)
    with pytest.raises(ConfigError, match=rf"screenspot.json, row 2: .*{said}"):
        read_screenspot(path, images, variant=variant)


@pytest.mark.parametrize("text", ["", "{}", "[]", "[1]"])
def test_a_file_of_another_kind_is_refused(tmp_path, images, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError, match=r"x\.json"):
        read_screenspot(tmp_path / "x.json", images)
    with pytest.raises(ConfigError, match=r"no .*json annotation file"):
        read_screenspot(images, images)
