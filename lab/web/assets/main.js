// The page: a door, titles, a play, and the lab.

import { API, Problem } from "./api.js";
import { home, search } from "./browse.js";
import { byId, element } from "./dom.js";
import { follow } from "./live.js";
import { LabMap } from "./map.js";
import { overlay } from "./overlay.js";
import { Play } from "./watch.js";

const world = await (await fetch("/lab/world")).json();
// ?buffer=4 holds less ahead, so that what happens to an appliance is felt sooner.
const ahead = Number(new URLSearchParams(location.search).get("buffer"));
if (ahead > 0) world.buffer_s = Math.min(ahead, world.buffer_s);
const kept = (name) => sessionStorage.getItem(`flix.${name}`);
const keep = (name, value) => sessionStorage.setItem(`flix.${name}`, value);
const regions = world.regions.map((r) => r.name);
const api = new API(regions.includes(kept("near")) ? kept("near") : world.home);
const map = new LabMap(world);
let play;

byId("lab-name").textContent = world.lab;
byId("email").value = world.offer.email;
byId("password").value = world.offer.password;
for (const id of ["near", "new-near"]) {
  byId(id).append(...regions.map((r) => element("option", { value: r, selected: r === api.near }, r)));
}

let clearing;
function say(text) {
  byId("status").textContent = text;
  clearTimeout(clearing);
  if (text) clearing = setTimeout(() => say(""), 8000);
}

// guarded runs something that may fail, and says so on the page.
const guarded = (f) => async (...args) => {
  try {
    say("");
    await f(...args);
  } catch (e) {
    if (e instanceof Problem && e.status === 401) leave();
    say(e.message);
  }
};

function enter(answer) {
  api.token = answer.token;
  keep("token", answer.token);
  byId("door").hidden = true;
  for (const id of ["search", "who", "browse"]) byId(id).hidden = false;
  return home(api, watch);
}

function leave() {
  wanted = undefined;
  closePlay().catch((e) => say(e.message));
  api.token = "";
  sessionStorage.removeItem("flix.token");
  byId("door").hidden = false;
  for (const id of ["search", "who", "browse"]) byId(id).hidden = true;
  byId("browse").replaceChildren();
  byId("email").focus();
}

let wanted; // what was asked for last: who clicks twice while a play ends wants that
const watch = guarded(async (title) => {
  wanted = title;
  await closePlay();
  if (wanted !== title) return;
  byId("now-playing").textContent = title.name;
  byId("overlay").replaceChildren();
  byId("watch").hidden = false;
  byId("watch").after(byId("lab")); // the map beside what it tells of
  byId("watch").scrollIntoView({ block: "start" });
  byId("video").setAttribute("aria-label", title.name);
  byId("video").focus({ preventScroll: true });
  // Its last report is made by the member who watched, also after a sign-out.
  play = new Play(api.asNow(), world, byId("video"), title, byId("format").value, (p) => {
    overlay(p);
    map.follow(p);
  });
  globalThis.flix = { play }; // for the console
  await play.start();
});

// closePlay ends the play, and returns once every play has let go of the picture.
let closing = Promise.resolve();
function closePlay() {
  const had = play;
  play = undefined;
  if (had) closing = closing.catch(() => {}).then(() => had.close()); // a failure was told to whoever closed that one
  return closing;
}

byId("sign-in").addEventListener("submit", guarded(async (e) => {
  e.preventDefault();
  const form = new FormData(e.target);
  await enter(await api.post("/signup/signin", { email: form.get("email"), password: form.get("password"), device: "web" }));
}));

byId("sign-up").addEventListener("submit", guarded(async (e) => {
  e.preventDefault();
  const form = new FormData(e.target);
  api.near = form.get("near");
  const country = world.regions.find((r) => r.name === api.near).country;
  await enter(await api.post("/signup/member", {
    key: crypto.randomUUID(), email: form.get("email"), name: form.get("name"), password: form.get("password"), plan: form.get("plan"), country,
  }));
  moveTo(api.near);
}));

byId("search").addEventListener("submit", guarded(async (e) => {
  e.preventDefault();
  const q = byId("q").value.trim();
  if (q) await search(api, q, watch);
  else await home(api, watch);
}));

function moveTo(region) {
  api.near = region;
  byId("near").value = region;
  keep("near", region);
}

byId("near").addEventListener("change", guarded(async (e) => {
  moveTo(e.target.value);
  const title = play && !play.ended ? play.title : undefined;
  await home(api, watch);
  if (title) await watch(title);
}));

byId("sign-out").addEventListener("click", leave);

byId("close").addEventListener("click", guarded(async () => {
  const id = play?.title.id;
  await closePlay();
  byId("watch").hidden = true;
  byId("main").append(byId("lab"));
  document.querySelector(`[data-title="${CSS.escape(id ?? "")}"]`)?.focus();
}));

byId("format").addEventListener("change", () => { if (play) watch(play.title); });

// What the browser's own controls do once they have the focus works from the
// whole page as well.
document.addEventListener("keydown", (e) => {
  if (!play || e.target.closest("input, select, textarea, button, video, summary") || e.ctrlKey || e.metaKey || e.altKey) return;
  const v = byId("video");
  const jump = { ArrowLeft: -5, ArrowRight: 5 }[e.key];
  if (e.key === "k" || e.key === " ") v.paused ? v.play() : v.pause();
  else if (jump) v.currentTime = Math.max(0, v.currentTime + jump);
  else if (e.key === "Escape") byId("close").click();
  else return;
  e.preventDefault();
});

follow((s) => {
  map.show(s);
  const mine = play && s.plays.find((p) => p.session === play.session);
  if (mine) play.region = mine.region;
}, (why) => say(`The lab is away: ${why}.`));

await guarded(async () => {
  byId("new-plan").append(...(await api.get("/signup/plans")).map((p) => element("option", { value: p.id }, `${p.name ?? p.id}${p.max_height ? `, up to ${p.max_height}p` : ""}`)));
})();
if (kept("token")) await guarded(enter)({ token: kept("token") });
else byId("door").hidden = false;
