"""Whatever is in a run, and whoever asks: nothing else is read, nothing is written, nothing is markup."""

from __future__ import annotations

import json
import os
from urllib.parse import quote

import pytest
from viewed_runs import pieces, rollouts, sample, write_run

from mmrl.runs.writer import RunWriter

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "<svg onload=alert(1)><![CDATA[",
    "\u202eright to left\u2066\x00\x1b[31m",
    "</pre></article><h1>",
    "x" * 1_000_000,
]


@pytest.fixture
def client(view, runs):
    write_run(runs / "one", 1)
    (runs.parent / "secret.png").write_bytes(b"secret")
    (runs / "secret.txt").write_bytes(b"secret")
    return view(runs)


# -- what may be read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "config.yaml", "..%2fconfig.yaml", "%2fetc%2fpasswd", "%00", "a" * 64 + ".yaml", "a" * 64 + ".svg",
        "a" * 64 + ".html", "a" * 64 + ".png%00.svg", "A" * 64 + ".png", "..\\config.yaml", "a" * 64,
    ],
)  # fmt: skip
def test_media_are_files_of_the_media_folder_named_by_a_hash(client, runs, name):
    assert client.get(f"/api/runs/one/media/{name}").status_code == 404
    (runs / "one" / "media" / "a.png").write_bytes(b"kept by somebody else")
    for suffix in ("", ".yaml", ".svg", ".html"):
        (runs / "one" / "media" / ("a" * 64 + suffix)).write_bytes(b"x")
    assert client.get(f"/api/runs/one/media/{name}").status_code == 404
    assert client.get("/api/runs/one/media/a.png").status_code == 404


@pytest.mark.parametrize("run", ["..", "%2e%2e", "../one", "..%2fone", "/etc", "one%2f..%2fone", "one%00", "", "."])
def test_runs_are_named_and_never_paths(client, run):
    answer = client.get(f"/api/runs/{run}/groups")
    assert answer.status_code == 404 or answer.headers["content-type"].startswith("text/html")
    assert b"click button" not in answer.content


def test_links_are_not_followed_out_of_a_run(client, runs):
    media = runs / "one" / "media"
    link = media / ("b" * 64 + ".png")
    link.symlink_to(runs.parent / "secret.png")
    assert client.get(f"/api/runs/one/media/{link.name}").status_code == 404
    inside = next(file for file in media.iterdir() if not file.is_symlink())
    assert client.get(f"/api/runs/one/media/{inside.name}").status_code == 200
    os.replace(media, runs.parent / "elsewhere")
    media.symlink_to(runs.parent / "elsewhere")
    assert client.get(f"/api/runs/one/media/{inside.name}").status_code == 404


def test_rollouts_that_are_links_are_not_followed(client, runs):
    write_run(runs.parent / "private", 3)
    target = runs.parent / "private" / "rollouts" / "step-000002.0.parquet"
    (runs / "one" / "rollouts" / "step-000002.0.parquet").symlink_to(target)
    client.settled("one")
    assert {group["step"] for group in client.json("/api/runs/one/groups")["groups"]} == {0}
    assert client.get("/api/runs/one/groups/2/0/0").status_code == 404
    assert client.get("/api/runs/one/tokens/2/0/0").status_code == 404


@pytest.mark.parametrize("part", ["config.yaml", "metrics.jsonl", "events.jsonl", "rollouts"])
def test_a_run_with_parts_that_are_links_is_none(view, runs, part):
    write_run(runs / "one", 1)
    write_run(runs.parent / "private", 3)
    os.replace(runs / "one" / part, runs.parent / "aside")
    (runs / "one" / part).symlink_to(runs.parent / "private" / part)
    client = view(runs)
    assert client.json("/api/runs")["runs"] == []
    for path in ("", "/groups", "/groups/2/0/0", "/tokens/2/0/0", "/metrics"):
        assert client.get(f"/api/runs/one{path}").status_code == 404


@pytest.mark.parametrize(
    "path", ["../pyproject.toml", "..%2fpyproject.toml", "js/../../pyproject.toml", "%2fetc%2fpasswd"]
)
def test_the_page_has_no_files_but_its_own(client, path):
    answer = client.get(f"/{path}")
    assert b"setuptools" not in answer.content and b"root:" not in answer.content


# -- who may ask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8100", "127.0.0.1.evil.example", "", "10.0.0.1", "[", "a@b"]
)
def test_only_this_host_is_answered(client, host):
    assert client.get("/api/runs", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["127.0.0.1:8100", "localhost:8100", "[::1]:8100", "LOCALHOST"])
def test_this_host_has_several_names(client, host):
    assert client.get("/api/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://localhost:8100", ""]
)
def test_pages_of_others_are_not_answered(client, origin):
    assert client.get("/api/runs", headers={"origin": origin}).status_code == 403
    mark = {"step": 0, "rank": 0, "row": 0, "star": True}
    assert client.put("/api/runs/one/annotations", json=mark, headers={"origin": origin}).status_code == 403


def test_the_own_page_is_answered(client):
    mark = {"step": 0, "rank": 0, "row": 0, "star": True}
    headers = {"origin": "http://127.0.0.1:8100", "sec-fetch-site": "same-origin"}
    assert client.put("/api/runs/one/annotations", json=mark, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "application/json", "content-length": "99999999"}, 413),
    ],
)
def test_a_form_cannot_change_anything(client, runs, headers, status):
    body = json.dumps({"step": 0, "rank": 0, "row": 0, "star": True}).encode()
    assert client.put("/api/runs/one/annotations", content=body, headers=headers).status_code == status
    assert not (runs / "one" / "annotations.jsonl").exists()


def test_nothing_but_annotations_can_be_written(client):
    routes = client.json("/api/openapi.json")["paths"]
    changing = {(path, method) for path, methods in routes.items() for method in methods if method != "get"}
    assert changing == {("/api/runs/{run}/annotations", "put"), ("/api/export", "post")}


def test_another_address_asks_for_the_token(view, runs):
    write_run(runs / "one", 1)
    client = view(runs, host="192.168.7.7", token="right-token")
    client.headers["host"] = "192.168.7.7:8100"
    for path in ("/", "/api/runs", "/js/app.js", "/?token=wrong", "/?token=", "/api/runs?token=right-token"):
        assert client.get(path).status_code == 401, path
    assert client.get("/", headers={"cookie": "mmrl_view=wrong"}).status_code == 401
    came = client.get("/run/one?step=3&token=right-token", follow_redirects=False)
    assert came.status_code == 303 and came.headers["location"] == "/run/one?step=3"
    cookie = came.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert client.get("/api/runs", headers={"cookie": cookie.partition(";")[0]}).status_code == 200


# -- what a browser may do with it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/run/one", "/api/runs", "/api/docs", "/api/nothing", "/api/runs/one/groups/0/0/0"]
)
def test_every_answer_has_the_policy(client, path):
    headers = client.get(path).headers
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["style-src"] == "'self'"
    assert policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_refusals_have_the_policy_as_well(client):
    answer = client.get("/api/runs", headers={"host": "evil.example"})
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_media_are_images_whatever_is_in_them(client, runs):
    file = runs / "one" / "media" / ("c" * 64 + ".png")
    file.write_text("<html><script>alert(1)</script>")
    answer = client.get(f"/api/runs/one/media/{file.name}")
    assert answer.headers["content-type"] == "image/png" and answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_arrives_as_it_is_and_only_as_json(view, runs, text):
    made = rollouts(
        [sample(text[:500], text, task=text[:500])], [[text, "b"]], [[1, 0]], notes=[{text: {"why": text}}, {}]
    )
    made.text[0] = text
    RunWriter.create(runs / "one", "").record(0, made, {}, pieces=pieces(made))
    client = view(runs)
    client.settled("one")
    group = client.get("/api/runs/one/groups/0/0/0")
    assert group.headers["content-type"] == "application/json"
    assert group.json()["rows"][0]["completion"] == text
    assert group.json()["messages"][0]["content"][0]["text"] == text
    assert client.json("/api/runs/one/groups", q=text[:100])["total"] == 1
    assert client.json("/api/runs/one/groups", task=text[:500])["total"] == 1
    assert len(client.json("/api/runs/one/rows")["rows"][0]["completion"]) <= 320


def test_a_run_with_a_hostile_name_is_a_run(view, runs):
    name = "<img src=x onerror=alert(1)>'\";--"
    write_run(runs / name, 1)
    client = view(runs)
    assert [run["id"] for run in client.json("/api/runs")["runs"]] == [name]
    group = client.json(f"/api/runs/{quote(name, safe='')}/groups/0/0/0")
    assert client.get(group["media"][0]["url"]).status_code == 200


def test_the_documentation_has_no_scripts(client):
    page = client.get("/api/docs").text
    assert "<script" not in page and "/api/runs/{run}/groups" in page and "GroupView" in page
