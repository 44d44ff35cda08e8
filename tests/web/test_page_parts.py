"""What the page computes itself: temporal IoU, votes, where a completion thinks, which text is a number."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def call(demo_runs, serve, open_page):
    """Calls a function of one of the page's modules."""
    page = open_page(serve(demo_runs))

    def call(module, function, *arguments):
        return page.evaluate(
            "async ([module, name, given]) => (await import(module))[name](...given)",
            [f"/js/{module}.js", function, arguments],
        )

    return call


def test_temporal_iou_is_the_rewards(call):
    from rewards.temporal import union_iou

    draw = random.Random(0)
    for _ in range(50):
        spans = [
            [sorted(round(draw.uniform(0, 10), 1) for _ in range(2)) for _ in range(draw.randint(1, 3))]
            for _ in range(2)
        ]
        assert call("parts/timeline", "tiou", *spans) == pytest.approx(
            union_iou(*[[tuple(s) for s in one] for one in spans])
        )


def test_a_completion_has_one_vote_for_a_place_however_many_boxes_it_draws_there(call):
    row = {"predictions": {"boxes": [[0, 0, 10, 10], [5, 5, 15, 15]], "points": []}}
    other = {"predictions": {"boxes": [[8, 8, 20, 20]], "points": []}}
    assert call("parts/heatmap", "votes", {"width": 32, "height": 16}, [row])["most"] == 1
    found = call("parts/heatmap", "votes", {"width": 32, "height": 16}, [row, other])
    grid = list(found["grid"].values()) if isinstance(found["grid"], dict) else found["grid"]
    cell = 32 / found["columns"]
    at = lambda x, y: grid[int(y / cell) * found["columns"] + int(x / cell)]  # noqa: E731
    assert (at(1, 1), at(9, 9), at(18, 9), at(30, 1)) == (1, 2, 1, 0)


@pytest.mark.parametrize(
    ("text", "range_"),
    [("<think>a</think>b", [0, 16]), ("x<think>a", [1, 9]), ("a</think>b", [0, 9]), ("nothing", None), ("", None)],
)
def test_where_a_completion_thinks(call, text, range_):
    assert call("parts/completion", "thinking", text) == range_


def test_later_metrics_follow_and_series_that_come_or_end_have_gaps(call):
    first = {"steps": [0, 1], "series": {"reward": [0.1, 0.2], "old": [1, None]}}
    later = {"steps": [2], "series": {"reward": [0.3], "new": [5]}}
    series = {"reward": [0.1, 0.2, 0.3], "old": [1, None, None], "new": [None, None, 5]}
    assert call("parts/panels", "joined", first, later) == {"steps": [0, 1, 2], "series": series}
    assert call("parts/panels", "joined", first, {"steps": [], "series": {}}) == first


def test_hidden_characters_are_named_and_others_are_left(call):
    assert call("dom", "plain", "a\u202eb\u200b\x07") == "a⟨U+202E⟩b⟨U+200B⟩⟨U+0007⟩"
    assert call("dom", "plain", "naïve 日本 مرحبا 👩 tab\t line\n") == "naïve 日本 مرحبا 👩 tab\t line\n"
