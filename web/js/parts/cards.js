// A group and a completion as lists show them.

import { h, name } from "../dom.js";
import { counted, number } from "../format.js";
import { groupPath } from "../router.js";
import { marked } from "./completion.js";
import { advantage, badge, range } from "./small.js";

/** @import {GroupCard, RowCard} from "../types.js" */

/**
 * @param {string} id
 * @param {GroupCard} group
 * @param {{q: string, isData: boolean}} how
 */
export function groupCard(id, group, { q, isData }) {
  const href = groupPath(id, group, { q: q || null });
  return h(
    "article",
    { class: "card group-card" },
    h("div", { class: "thumb" }, group.thumb ? h("img", { src: group.thumb.url, alt: "", loading: "lazy", decoding: "async" }) : h("span", { class: "muted", "aria-hidden": "true" }, "Aa")),
    h(
      "div",
      { class: "card-text" },
      h("h3", { class: "clamp" }, h("a", { href }, group.prompt ? marked(group.prompt, q) : name(group.sample_id))),
      h(
        "p",
        { class: "muted meta" },
        !isData && `step ${group.step} · `,
        group.task ? h("span", null, name(group.task), " · ") : null,
        isData ? name(group.sample_id) : counted(group.n, "completion"),
      ),
      isData
        ? null
        : h(
            "p",
            { class: "badges" },
            range(group.reward),
            group.zero_spread && badge("no spread", "note", "Every completion has the same reward: nothing is learned from this group"),
            group.truncated > 0 && badge(`${group.truncated} truncated`, "warn"),
            group.failed > 0 && badge(`${group.failed} failed`, "bad", "A reward failed on these completions"),
            group.unparsed > 0 && badge(`${group.unparsed} unparsed`, "warn", "A reward found nothing to read"),
            group.conflict !== null && group.conflict > 0.5 && badge(`disagreement ${number(group.conflict)}`, "note", "The largest gap between two scores of one completion"),
            group.starred > 0 && badge(`★ ${group.starred}`, "note", "starred"),
          ),
    ),
  );
}

/**
 * @param {string} id
 * @param {RowCard} row
 * @param {string} q
 */
export function rowCard(id, row, q) {
  const href = groupPath(id, row, { row: row.row, q: q || null });
  return h(
    "article",
    { class: "card row-card" },
    row.made_url && !/\.(mp4|webm)$/.test(row.made_url) ? h("div", { class: "thumb" }, h("img", { src: row.made_url, alt: "", loading: "lazy" })) : null,
    h(
      "div",
      { class: "card-text" },
      h("p", { class: "said clamp" }, h("a", { href }, row.completion ? marked(row.completion, q) : h("span", { class: "muted" }, row.made_url ? "picture" : "(empty)"))),
      h(
        "p",
        { class: "badges" },
        h("b", { title: "reward" }, number(row.reward)),
        advantage(row.advantage),
        h("span", { class: "muted" }, `step ${row.step} · `, name(row.sample_id), row.made_url ? "" : ` · ${counted(row.tokens, "token")}`),
        row.truncated && badge("truncated", "warn"),
        row.failed && badge("reward failed", "bad"),
        row.unparsed && badge("unparsed", "warn"),
        row.origin !== "policy" && badge(row.origin.replaceAll("_", " "), "note", "where this completion comes from"),
        row.starred && badge("★", "note", "starred"),
      ),
    ),
  );
}
