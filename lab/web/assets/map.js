// The lab as a picture: a column for each region (a row on a narrow page), with
// its cloud, its sites and their appliances; and every play as a dot that sits at
// the appliance that serves it.

import { byId, drawn } from "./dom.js";
import { short } from "./places.js";

const narrow = 640; // pixels of width below which regions lie in rows
const cell = { width: 236, height: 250 };
const box = 20; // of an appliance
const travel = 700; // milliseconds that a dot takes to its new appliance

const states = { ready: "ok", starting: "ok", degraded: "bad", down: "bad", stopped: "bad", evacuated: "away" };

export class LabMap {
  constructor(world) {
    this.world = world;
    this.spots = new Map(); // appliance, site or region → point
    this.dots = new Map(); // session → its picture and where it is
    this.columns = 0;
    this.own = undefined;
    this.resize();
    new ResizeObserver(() => this.resize()).observe(byId("map"));
  }

  // resize lays the regions out anew when another number of them fits.
  resize() {
    const width = byId("map").clientWidth;
    const columns = width < narrow ? 1 : Math.min(this.world.regions.length, Math.max(2, Math.floor(width / 220)));
    if (columns === this.columns) return;
    this.columns = columns;
    this.draw();
    if (this.snapshot) this.show(this.snapshot);
  }

  draw() {
    const rows = Math.ceil(this.world.regions.length / this.columns);
    this.spots.clear();
    this.dots.clear();
    this.parts = new Map();
    this.lines = drawn("g");
    const svg = drawn("svg", { viewBox: `0 0 ${this.columns * cell.width + 12} ${rows * cell.height + 12}`, role: "img", "aria-labelledby": "lab-title", "aria-describedby": "lab-words" });
    this.world.regions.forEach((r, i) => svg.append(this.region(r, 12 + (i % this.columns) * cell.width, 12 + Math.floor(i / this.columns) * cell.height)));
    svg.append(this.lines);
    byId("map").replaceChildren(svg);
  }

  region(r, x, y) {
    const wide = cell.width - 12;
    const cloud = drawn("rect", { x, y, width: wide, height: 50, rx: 25, class: "cloud" });
    const words = drawn("text", { x: x + wide / 2, y: y + 39, "text-anchor": "middle", class: "soft" });
    this.parts.set(r.name, { cloud, words });
    this.spots.set(r.name, { x: x + wide / 2, y: y + 50 });
    const g = drawn("g", {}, cloud, drawn("text", { x: x + wide / 2, y: y + 22, "text-anchor": "middle" }, r.name), words);
    const height = Math.min(48, (cell.height - 62) / r.sites.length);
    r.sites.forEach((s, i) => g.append(this.site(r, s, x, y + 62 + i * height, wide, height - 6)));
    return g;
  }

  site(r, s, x, y, width, height) {
    const g = drawn("g", {}, drawn("rect", { x, y, width, height, rx: 5, class: "site" }),
      drawn("text", { x: x + 8, y: y + height / 2 + 4 }, s.name));
    this.spots.set(s.name, { x: x + 4, y: y + height / 2 });
    for (let n = 1; n <= s.appliances; n++) {
      const name = `${r.name}/${s.name}/oca/${n}`;
      const at = { x: x + width - (s.appliances - n + 1) * (box + 8), y: y + (height - box) / 2 };
      const rect = drawn("rect", { ...at, width: box, height: box, rx: 3, class: "appliance" }, drawn("title", {}, name));
      this.parts.set(name, { rect });
      this.spots.set(name, { x: at.x + box / 2, y: at.y + box / 2 });
      g.append(rect);
    }
    return g;
  }

  // show brings the picture up to what the lab is now.
  show(snapshot) {
    this.snapshot = snapshot;
    for (const r of snapshot.regions) {
      const part = this.parts.get(r.name);
      if (!part) continue; // a region that was added: the page has to be loaded anew
      part.cloud.setAttribute("class", `cloud ${states[r.state] ?? "bad"}`);
      part.words.textContent = `${r.state}, ${r.running} of ${r.instances} run`;
      for (const a of r.appliances) this.parts.get(a.name)?.rect.setAttribute("class", `appliance ${a.state === "running" ? "ok" : "bad"}`);
    }
    this.plays();
    this.say();
  }

  // follow makes a play of this page's own.
  follow(play) {
    this.own = play;
    this.plays();
  }

  plays() {
    const all = new Map();
    for (const p of this.snapshot?.plays ?? []) all.set(p.session, p);
    const own = this.own;
    if (own) {
      const known = all.get(own.session);
      all.delete(own.session);
      if (!own.ended && own.appliance) {
        all.set(own.session, { session: own.session, title: own.title.id, appliance: own.appliance.name, isp: known?.isp ?? own.appliance.site, region: known?.region ?? own.region, own: true });
      }
    }
    for (const [id, d] of this.dots) {
      if (!all.has(id)) {
        d.g.remove();
        this.dots.delete(id);
      }
    }
    let n = 0;
    for (const p of all.values()) this.place(p, n++);
  }

  // place puts a play where it belongs now; it travels there.
  place(p, n) {
    const at = this.spots.get(p.appliance) ?? this.spots.get(p.appliance.split("/").at(-3));
    if (!at) return;
    const off = { x: (n % 5) * 5 - 10 * Math.sign(n % 5), y: p.own ? 0 : (n % 3) * 4 - 4 };
    const to = p.own ? at : { x: at.x + off.x, y: at.y + off.y };
    let d = this.dots.get(p.session);
    if (!d) {
      d = { g: drawn("g", { class: p.own ? "play own" : "play", "data-session": p.session }), api: drawn("path", { class: "api" }), video: drawn("path", { class: "video" }), dot: drawn("circle", { r: p.own ? 8 : 5 }), words: drawn("title"), at: to };
      d.g.append(d.api, d.video, d.dot, d.words);
      this.lines.append(d.g);
      this.dots.set(p.session, d);
    }
    d.words.textContent = `${p.title} from ${short(p.appliance)}`;
    d.g.dataset.appliance = p.appliance;
    d.viewer = this.spots.get(p.isp) ?? to;
    d.cloud = this.spots.get(p.region);
    this.move(d, to);
  }

  move(d, to) {
    const from = d.at;
    const far = Math.hypot(to.x - from.x, to.y - from.y);
    cancelAnimationFrame(d.frame);
    if (far < 1 || matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.put(d, to);
      return;
    }
    const began = performance.now();
    const step = (now) => {
      const k = Math.min(1, Math.max(0, now - began) / travel);
      const eased = k * k * (3 - 2 * k);
      this.put(d, { x: from.x + (to.x - from.x) * eased, y: from.y + (to.y - from.y) * eased });
      if (k < 1) d.frame = requestAnimationFrame(step);
    };
    d.frame = requestAnimationFrame(step);
  }

  put(d, at) {
    d.at = at;
    d.dot.setAttribute("cx", at.x);
    d.dot.setAttribute("cy", at.y);
    d.video.setAttribute("d", `M${d.viewer.x} ${d.viewer.y}L${at.x} ${at.y}`);
    d.api.setAttribute("d", d.cloud ? `M${d.viewer.x} ${d.viewer.y}L${d.cloud.x} ${d.cloud.y}` : "");
  }

  // say tells in words what the picture shows.
  say() {
    const s = this.snapshot;
    const parts = s.regions.map((r) => {
      const off = r.appliances.filter((a) => a.state !== "running").map((a) => short(a.name));
      return `${r.name} is ${r.state}${off.length ? `; not serving: ${off.join(", ")}` : ""}`;
    });
    const words = `${parts.join(". ")}. ${s.plays.length} plays under way.`;
    if (byId("lab-words").textContent !== words) byId("lab-words").textContent = words;
  }
}
