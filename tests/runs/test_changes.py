"""What is set otherwise in a resumed run than before."""

from __future__ import annotations

from mmrl.runs.changes import changed_settings, in_words


def test_differences_are_named_by_their_keys():
    before = {"runs": "a", "seed": 0, "model": {"path": "m", "adapter": None}, "rewards": [{"name": "x"}], "old": 1}
    now = {"runs": "b", "seed": 0, "model": {"path": "m", "adapter": {"rank": 8}}, "rewards": [{"name": "y"}], "new": 2}
    changed = changed_settings(before, now)
    assert changed == {
        "model.adapter": [None, {"rank": 8}], "rewards": [[{"name": "x"}], [{"name": "y"}]],
        "old": [1, None], "new": [None, 2],
    }  # fmt: skip
    assert "old 1 -> None" in in_words(changed)
    assert changed_settings(before, before) == {}
