// One completion of a group: its reward and advantage, its scores with their reasons, its text, a star and a note.

import * as api from "../api.js";
import { announce, h } from "../dom.js";
import { counted, number } from "../format.js";
import { completion } from "./completion.js";
import { made } from "./pictures.js";
import { scores } from "./scores.js";
import { advantage, badge } from "./small.js";
import { tokenText } from "./tokens.js";

/** @import {Place, Row, Tokens, Weighted} from "../types.js" */

/**
 * @param {string} id
 * @param {Place} place
 * @param {Row} row
 * @param {{at: number, q: string, weights: Weighted[], sizes: Map<string, number>, onPick: () => void}} how
 */
export function rowCard(id, place, row, { at, q, weights, sizes, onPick }) {
  const said = h("div", { class: "row-text" });
  const star = h("button", { type: "button", class: "plain icon quiet star", on: { click: () => keep({ star: !row.starred }) } });
  const note = h("textarea", { rows: 2, maxlength: 10000, class: "note", "aria-label": `The note on completion ${at + 1}`, placeholder: "A note, kept beside the run", on: { change: () => keep({ note: note.value }) } });
  note.value = row.note;
  note.hidden = !row.note;
  const write = h("button", { type: "button", class: "plain icon quiet", "aria-label": `Note on completion ${at + 1}`, "aria-expanded": String(!note.hidden), title: "Note", on: {
    click: () => {
      note.hidden = !note.hidden;
      write.setAttribute("aria-expanded", String(!note.hidden));
      if (!note.hidden) note.focus();
    },
  } }, "✎");
  const failed = Object.entries(row.notes).filter(([, found]) => found?.error);
  const side = row.advantage === null || row.advantage === 0 ? "even" : row.advantage > 0 ? "above" : "below";
  const element = h(
    "article",
    { class: `row ${side}`, tabindex: "-1", "data-row": String(row.row), "aria-label": `Completion ${at + 1}, reward ${number(row.reward)}`, on: { click: (/** @type {Event} */ event) => event.target instanceof Element && !event.target.closest("button, a, summary, textarea") && onPick() } },
    h(
      "header",
      { class: "row-head" },
      h("span", { class: "rank" }, `#${at + 1}`),
      h("b", { class: "reward", title: "reward" }, h("span", { class: "unseen" }, "reward "), number(row.reward)),
      advantage(row.advantage),
      h("span", { class: "muted" }, row.made_url ? counted(row.tokens, "step") : counted(row.tokens, "token")),
      row.truncated && badge("truncated", "warn", "Cut at the most tokens allowed"),
      row.unparsed && badge("parse failed", "warn", "A reward found nothing to read"),
      failed.length ? badge("reward error", "bad", failed.map(([score]) => score).join(", ")) : row.failed && badge("reward error", "bad"),
      row.origin !== "policy" && badge(row.origin.replaceAll("_", " "), "note", "Where this completion comes from"),
      h("span", { class: "spring" }),
      write,
      star,
    ),
    row.made_url ? h("div", { class: "made-large" }, made(row, `Picture ${at + 1}`, { large: true })) : null,
    said,
    scores(row, weights, sizes),
    note,
  );
  label();

  function label() {
    star.textContent = row.starred ? "★" : "☆";
    star.setAttribute("aria-pressed", String(row.starred));
    star.setAttribute("aria-label", `Star completion ${at + 1}`);
  }

  /** Keep a star or a note; what the server refuses is taken back. @param {{star?: boolean, note?: string}} change */
  async function keep({ star = row.starred, note: text = row.note }) {
    const before = { starred: row.starred, note: row.note };
    Object.assign(row, { starred: star, note: text });
    label();
    try {
      await api.annotate(id, { step: place.step, rank: place.rank, row: row.row, star, note: text });
      announce("Kept");
    } catch (error) {
      Object.assign(row, before);
      label();
      announce(error instanceof Error ? error.message : String(error));
    }
  }

  return {
    element,
    row,
    star: () => void keep({ star: !row.starred }),
    /** @param {boolean} folded */
    plain: (folded) => said.replaceChildren(...(row.made_url && !row.completion ? [] : [completion(row.completion, { q, folded })])),
    /**
     * @param {Tokens} tokens
     * @param {string} value
     * @param {import("./tokens.js").Scale} scale
     * @param {boolean} folded
     */
    coloured: (tokens, value, scale, folded) => said.replaceChildren(tokenText(tokens, value, scale, { folded })),
  };
}
