"""The interactive elements of an open page: role and name from the accessibility tree, boxes measured.

Visible means: at least half of the element lies inside the screen and inside whatever clips it, that part is at least
`SMALLEST` pixels wide and high, it is not transparent, and a click on its middle reaches the element itself rather than
what lies over it or an interactive element within it. Content of frames is not looked at.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from data_pipelines.coordinates import Size

if TYPE_CHECKING:
    from playwright.async_api import CDPSession

ROLES = {
    "button": "button", "link": "link", "textbox": "textbox", "searchbox": "searchbox", "combobox": "combobox",
    "checkbox": "checkbox", "radio": "radio", "switch": "switch", "slider": "slider", "spinbutton": "spinbutton",
    "tab": "tab", "menuitem": "menuitem", "menuitemcheckbox": "menuitemcheckbox", "menuitemradio": "menuitemradio",
    "option": "option", "treeitem": "treeitem", "DisclosureTriangle": "disclosure", "ColorWell": "colour",
    "Date": "date", "DateTime": "date", "InputTime": "time", "ToggleButton": "button", "PopUpButton": "combobox",
}  # fmt: skip
"""Roles of Chromium's accessibility tree that are interactive -> what they are called here."""
NOT_ROLES = ("RootWebArea", "LabelText", "StaticText", "InlineTextBox", "Iframe")
"""Never interactive of themselves, though they answer clicks: a label passes its click on."""
SMALLEST = 4
"""Pixels."""
MOST = 3000
"""Elements that are measured; the rest of a page is left out."""
LONGEST_NAME = 100
"""Characters; a longer one is no name but a text."""


@dataclass(frozen=True)
class Element:
    """One element of a screen."""

    role: str
    """ARIA's, or `clickable` for one without a role that answers clicks."""
    name: str
    """The accessible name, in one line; may be empty."""
    box: tuple[int, int, int, int]
    """x1, y1, x2, y2 of its visible part, in pixels of the screenshot."""
    type: str
    """`text` if it shows a text (or is a field for one), else `icon`."""
    disabled: bool = False

    @property
    def point(self) -> tuple[float, float]:
        """Where it is clicked."""
        x1, y1, x2, y2 = self.box
        return (x1 + x2) / 2, (y1 + y2) / 2


MEASURE = """
async function (smallest, ...elements) {
  const known = new Set(elements);
  const inside = ["INPUT", "TEXTAREA", "SELECT", "VIDEO", "AUDIO"];
  const up = (node) => node.assignedSlot || node.parentElement ||
    (node.getRootNode() instanceof ShadowRoot ? node.getRootNode().host : null);
  const cut = (a, b) => [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
  const join = (a, b) => [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
  const area = (a) => Math.max(0, a[2] - a[0]) * Math.max(0, a[3] - a[1]);
  const edges = (r) => [r.left, r.top, r.right, r.bottom];

  // A block is one rectangle. An inline element has one per line, and what stands in it may be larger: the largest.
  const whole = (element) => {
    let boxes = [...element.getClientRects()].map(edges);
    const display = getComputedStyle(element).display;
    if (display === "inline" || display === "contents") {
      const range = document.createRange();
      range.selectNodeContents(element);
      for (const rect of [...range.getClientRects()].map(edges)) {
        const line = boxes.findIndex((box) => area(cut(box, rect)) > 0);
        if (line < 0) boxes.push(rect); else boxes[line] = join(boxes[line], rect);
      }
    }
    return boxes.reduce((best, box) => (best === null || area(box) > area(best) ? box : best), null);
  };

  const clip = (element, box) => {
    let shown = cut(box, [0, 0, innerWidth, innerHeight]);
    let position = getComputedStyle(element).position;
    for (let a = up(element); a && a !== document.body && a !== document.documentElement; a = up(a)) {
      const style = getComputedStyle(a);
      const holds = style.transform !== "none" || style.filter !== "none" ||
        (position === "absolute" ? style.position !== "static" : position !== "fixed");
      if (!holds || style.display === "contents") continue;
      if (style.display !== "inline" && (style.overflowX !== "visible" || style.overflowY !== "visible")) {
        const r = a.getBoundingClientRect();
        const x = r.left + a.clientLeft, y = r.top + a.clientTop;
        shown = cut(shown, [x, y, x + a.clientWidth, y + a.clientHeight]);
      }
      position = style.position;
    }
    return shown;
  };

  return elements.map((element) => {
    const root = element.getRootNode();
    if (!element.isConnected || (root instanceof ShadowRoot && inside.includes(root.host.tagName))) return null;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) return null;
    const box = whole(element);
    if (!box || area(box) <= 0) return null;
    const shown = clip(element, box);
    if (shown[2] - shown[0] < smallest || shown[3] - shown[1] < smallest || area(shown) < area(box) / 2) return null;
    let hit = root.elementFromPoint((shown[0] + shown[2]) / 2, (shown[1] + shown[3]) / 2);
    while (hit && !known.has(hit)) hit = up(hit);
    if (hit !== element) return null;
    const text = (element.innerText || "").replace(/\\s+/g, " ").trim().slice(0, 200);
    const holds = elements.some((other) => other !== element && element.contains(other));
    return { box: shown, text, holds, field: ["INPUT", "TEXTAREA", "SELECT"].includes(element.tagName) };
  });
}
"""


async def find_elements(session: CDPSession, size: Size) -> list[Element]:
    """The visible interactive elements of the page behind a session, in the order of the document."""
    found = (await _candidates(session))[:MOST]
    if not found:
        return []
    tree = await session.send("Page.getFrameTree")
    world = await session.send(
        "Page.createIsolatedWorld", {"frameId": tree["frameTree"]["frame"]["id"], "worldName": "capture"}
    )
    context = world["executionContextId"]
    objects = await asyncio.gather(*(_resolve(session, node["id"], context) for node in found))
    there = [(node, handle) for node, handle in zip(found, objects, strict=True) if handle]
    answer = await session.send(
        "Runtime.callFunctionOn",
        {
            "functionDeclaration": MEASURE,
            "executionContextId": context,
            "arguments": [{"value": SMALLEST}, *({"objectId": handle} for _, handle in there)],
            "returnByValue": True,
            "awaitPromise": True,
        },
    )
    if "exceptionDetails" in answer:
        raise ValueError(f"the page could not be measured ({answer['exceptionDetails'].get('text')})")
    measured = zip((node for node, _ in there), answer["result"]["value"], strict=True)
    return [element for node, shape in measured if shape and (element := _element(node, shape, size))]


async def _resolve(session: CDPSession, node: int, context: int) -> str | None:
    """A handle of a node in our world; None if the node has gone."""
    from playwright.async_api import Error

    try:
        answer = await session.send("DOM.resolveNode", {"backendNodeId": node, "executionContextId": context})
    except Error as error:
        if "No node" in str(error) or "not belong" in str(error):
            return None
        raise
    handle: str | None = answer["object"].get("objectId")
    return handle


async def _candidates(session: CDPSession) -> list[dict[str, Any]]:
    """id, role, name, disabled of every node that is interactive by its role, or answers clicks without one."""
    snapshot = await session.send("DOMSnapshot.captureSnapshot", {"computedStyles": []})
    nodes, strings = snapshot["documents"][0]["nodes"], snapshot["strings"]
    order = {node: place for place, node in enumerate(nodes["backendNodeId"])}
    clickable = {
        nodes["backendNodeId"][place]
        for place in nodes["isClickable"]["index"]
        if nodes["nodeType"][place] == 1 and strings[nodes["nodeName"][place]] not in ("HTML", "BODY", "LABEL")
    }
    found = []
    for node in (await session.send("Accessibility.getFullAXTree"))["nodes"]:
        number, role = node.get("backendDOMNodeId"), node.get("role", {}).get("value", "")
        if node.get("ignored") or number not in order or role in NOT_ROLES:
            continue
        properties = {one["name"]: one["value"].get("value") for one in node.get("properties", [])}
        kind = ROLES.get(role)
        if kind is None and properties.get("focusable") and properties.get("editable"):
            kind = "textbox"
        if kind is None and number in clickable:
            kind = "clickable"
        if kind is not None:
            name = str(node.get("name", {}).get("value", ""))
            found.append({"id": number, "role": kind, "name": name, "disabled": bool(properties.get("disabled"))})
    return sorted(found, key=lambda node: order[node["id"]])


def _element(node: dict[str, Any], shape: dict[str, Any], size: Size) -> Element | None:
    """None for something large that answers clicks, with interactive elements or a long text in it."""
    name = " ".join(node["name"].split())
    if node["role"] == "clickable":
        name = name or shape["text"]
        if shape["holds"] or len(shape["text"]) > LONGEST_NAME:
            return None
    x1, y1, x2, y2 = (min(max(round(edge), 0), size[index % 2]) for index, edge in enumerate(shape["box"]))
    kind = "text" if shape["field"] or shape["text"] else "icon"
    return Element(node["role"], name, (x1, y1, x2, y2), kind, node["disabled"])
