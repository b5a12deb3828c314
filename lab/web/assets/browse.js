// Rows of titles, and what a search finds.

import { byId, element } from "./dom.js";

const tints = 5;

// tint picks a title's colours, the same each time.
function tint(id) {
  let h = 0;
  for (const c of id) h = (h * 31 + c.codePointAt(0)) >>> 0;
  return `tint${h % tints}`;
}

function facts(t) {
  const length = t.duration_s >= 60 ? `${Math.round(t.duration_s / 60)} min` : `${Math.round(t.duration_s)} s`;
  const best = Math.max(0, ...(t.rungs ?? []).map((r) => r.height));
  return [t.year, length, best ? `${best}p` : "", ...(t.genres ?? [])].filter(Boolean).join(" · ");
}

function card(t, watch) {
  const b = element("button", { type: "button", class: `title ${tint(t.id)}`, "data-title": t.id, disabled: !t.live, title: t.synopsis || undefined },
    element("pre", { "aria-hidden": "true" }, t.poster || t.name.toUpperCase()),
    element("span", {}, t.name, element("small", {}, t.live ? facts(t) : "not out yet")));
  b.addEventListener("click", () => watch(t));
  return element("li", {}, b);
}

function row(name, titles, watch) {
  const id = `row-${name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return element("div", { class: "row" }, element("h2", { id }, name),
    element("ul", { "aria-labelledby": id }, ...titles.map((t) => card(t, watch))));
}

// show puts rows on the page.
function show(rows, watch) {
  byId("browse").replaceChildren(...rows.filter((r) => r.titles.length).map((r) => row(r.name, r.titles, watch)));
}

// home shows the member's rows.
export async function home(api, watch) {
  const { rows } = await api.get("/discovery/rows");
  show(rows, watch);
}

// search shows what is found, and says how much that is.
export async function search(api, query, watch) {
  const [{ hits }, { titles }] = await Promise.all([
    api.get(`/discovery/search?limit=20&q=${encodeURIComponent(query)}`),
    api.get("/discovery/titles"),
  ]);
  const all = new Map(titles.map((t) => [t.id, t]));
  const found = hits.map((h) => all.get(h.id) ?? { ...h, genres: [], rungs: [] });
  if (found.length) {
    show([{ name: `Found for “${query}”`, titles: found }], watch);
  } else {
    byId("browse").replaceChildren(element("h2", {}, `Nothing is called “${query}”`));
  }
  return found.length;
}
