// What serves a play, beside the picture.

import { byId, element } from "./dom.js";
import { short } from "./places.js";

const kinds = { isp: "inside the ISP", exchange: "at the exchange", origin: "origin" };

function rate(bits) {
  return bits >= 1e6 ? `${(bits / 1e6).toFixed(1)} Mbit/s` : `${Math.round(bits / 1e3)} kbit/s`;
}

function size(bytes) {
  return bytes >= 1 << 20 ? `${(bytes / (1 << 20)).toFixed(1)} MiB` : `${Math.round(bytes / 1024)} KiB`;
}

// facts of a play: id, what it is called, what it is.
function facts(p) {
  const r = p.rung;
  return [
    ["state", "State", p.error ?? p.state],
    ["appliance", "Appliance", p.appliance ? short(p.appliance.name) : "–"],
    ["site", "Site", p.appliance ? [p.appliance.site, kinds[p.appliance.kind]].filter(Boolean).join(", ") : "–"],
    ["region", "API region", p.region ?? "–"],
    ["rung", "Rung", r ? `${r.id}, ${r.height}p, ${rate(1000 * r.kbps)}` : "–"],
    ["buffer", "Buffer", `${p.bufferS().toFixed(1)} s`],
    ["bandwidth", "Bandwidth", p.bandwidth() ? rate(p.bandwidth()) : "–"],
    ["received", "Received", size(p.bytes)],
    ["switches", "Appliance switches", String(p.switches)],
    ["rebuffers", "Rebuffers", p.rebuffers ? `${p.rebuffers}, ${p.rebufferS.toFixed(1)} s` : "0"],
    ["delay", "Play delay", p.delayMS ? `${Math.round(p.delayMS)} ms` : "–"],
  ];
}

// overlay shows a play; what did not change is left alone.
export function overlay(p) {
  for (const [id, name, value] of facts(p)) {
    let at = byId(`now-${id}`);
    if (!at) {
      at = element("dd", { id: `now-${id}` });
      byId("overlay").append(element("dt", {}, name), at);
    }
    if (at.textContent !== value) at.textContent = value;
  }
}
