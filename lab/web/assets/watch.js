// One play in a stock player. The player is told nothing but a manifest: which
// appliance to use it learns from the manifest's steering server, and what
// became of a request it finds out by itself.

import { applianceAt } from "./places.js";

// Retries of the player: a dead appliance refuses at once, a frozen one says
// nothing. Each retry goes to the next appliance of the order.
const retries = (world) => ({
  maxAttempts: 6, baseDelay: 50, backoffFactor: 1.5, fuzzFactor: 0.5,
  timeout: 4 * world.stall_ms, stallTimeout: world.stall_ms, connectionTimeout: 2 * world.probe_ms,
});

const settings = (world, session, title) => ({
  manifest: { retryParameters: retries(world) },
  streaming: { bufferingGoal: world.buffer_s, rebufferingGoal: 2, retryParameters: retries(world) },
  abr: { useNetworkInformation: false, defaultBandwidthEstimate: 1e6, switchInterval: 2 },
  cmcd: { enabled: true, useHeaders: false, sessionId: session, contentId: title },
});

// recovery is how long to wait before the player is asked to go on, milliseconds,
// and lives how often a play may be loaded anew where it stopped.
const recovery = 250;
const lives = 3;

export class Play {
  // changed is called with the play whenever something about it is new.
  constructor(api, world, video, title, format, changed) {
    Object.assign(this, { api, world, video, title, format, changed });
    this.session = crypto.randomUUID();
    this.rebuffers = 0;
    this.rebufferS = 0;
    this.switches = 0;
    this.bytes = 0;
    this.reloads = 0;
    this.troubles = []; // what the player complained of last, for the console
    this.reported = { bytes: 0, sequence: 0 };
    this.state = "starting";
    this.started = performance.now();
    this.listeners = new AbortController();
  }

  // start begins the play; one that is closed meanwhile just ends.
  async start() {
    try {
      await this.begin();
    } catch (e) {
      if (!this.ended) throw e;
    }
  }

  async begin() {
    this.answer = await this.api.post("/play/start", { session_id: this.session, title_id: this.title.id, device: "web" });
    if (this.ended) return this.report("stop"); // its licence is to be given back all the same
    this.region = this.answer.region;
    const { Player, polyfill } = globalThis.shaka;
    polyfill.installAll();
    if (!Player.isBrowserSupported()) throw new Error("This browser cannot play: it has no Media Source Extensions.");
    this.player = new Player();
    await this.player.attach(this.video);
    if (this.ended) return;
    this.player.configure(settings(this.world, this.session, this.title.id));
    this.player.configure("streaming.failureCallback", (why) => this.recover(why));
    this.player.getNetworkingEngine().registerResponseFilter((type, response) => this.received(type, response));
    this.listen();
    await this.load(this.answer.position_s);
  }

  async load(position) {
    await this.player.load(new URL(this.api.url(this.answer.stock[this.format]), location.href).href, position || undefined);
    if (this.ended) return; // closed meanwhile
    await this.video.play().catch(() => {}); // a browser that wants a click first: the controls are there
  }

  listen() {
    const on = (target, kind, f) => target.addEventListener(kind, f, { signal: this.listeners.signal });
    const v = this.video;
    on(v, "playing", () => this.playing());
    on(v, "waiting", () => this.waiting());
    on(v, "ended", () => this.finish("ended"));
    on(v, "timeupdate", () => this.changed(this));
    on(globalThis, "pagehide", () => this.finish("closed"));
    this.player.addEventListener("adaptation", () => this.changed(this));
    this.player.addEventListener("error", (e) => { if (e.detail?.severity === 2) this.failed(e.detail); });
    this.timer = setInterval(() => this.report("progress"), 1000 * this.world.report_s);
  }

  // received notes where a segment came from.
  received(type, response) {
    const { RequestType } = globalThis.shaka.net.NetworkingEngine;
    if (type !== RequestType.SEGMENT) return;
    this.bytes += response.data.byteLength;
    const at = applianceAt(response.uri, this.answer.appliances);
    const file = new URL(response.uri).pathname.split("/").at(-1);
    const stream = this.answer.streams.find((s) => s.path === file);
    if (!at || stream?.kind !== "video") return;
    if (this.appliance && this.appliance.name !== at.name) this.switches++;
    this.appliance = at;
    this.rung = stream; // what was fetched last; what is shown follows within the buffer
    this.changed(this);
  }

  playing() {
    if (this.waitingSince !== undefined) {
      this.rebufferS += (performance.now() - this.waitingSince) / 1000;
      this.waitingSince = undefined;
    }
    if (this.state === "starting") {
      this.delayMS = performance.now() - this.started;
      this.state = "playing";
      this.report("start");
    }
    this.state = "playing";
    this.changed(this);
  }

  // waiting counts a stall: not before the start, not while seeking, not at the
  // end; and not with media at hand, when it is the machine that is too slow.
  waiting() {
    const v = this.video;
    if (this.state !== "playing" || v.seeking || v.ended || v.duration - v.currentTime < 0.25 || this.bufferS() > 0.5) return;
    this.rebuffers++;
    this.waitingSince = performance.now();
    this.state = "waiting";
    this.changed(this);
  }

  // recover lets the player try again: every appliance it knew failed.
  recover(why) {
    this.trouble("streaming", why);
    if (this.ended) return;
    setTimeout(() => { if (!this.ended) this.player.retryStreaming(); }, recovery);
  }

  trouble(where, why) {
    this.troubles.push(`${this.video.currentTime.toFixed(1)} s: ${where}: Shaka error ${why.code} ${why.data?.map(String).join(" ").slice(0, 300) ?? ""}`);
    if (this.troubles.length > 20) this.troubles.shift();
  }

  // failed begins anew where the player gave up, with what the play API says now.
  async failed(why) {
    this.trouble("player", why);
    if (this.ended) return;
    if (this.reloads++ < lives) {
      try {
        const position = this.video.currentTime;
        const asked = { session_id: this.session, title_id: this.title.id, license: this.answer.license, device: "web" };
        this.answer = { ...await this.api.post("/play/renew", asked), position_s: position };
        await this.load(position);
        return;
      } catch {
        // it says below what was wrong in the first place
      }
    }
    this.error = `The player gave up (Shaka error ${why.code}).`;
    this.report("error", this.error);
    this.changed(this);
  }

  // bufferS is the media ahead of the position, in seconds.
  bufferS() {
    const { buffered, currentTime } = this.video;
    for (let i = 0; i < buffered.length; i++) {
      if (buffered.start(i) <= currentTime + 0.1 && currentTime <= buffered.end(i)) return buffered.end(i) - currentTime;
    }
    return 0;
  }

  bandwidth() {
    return this.player?.getStats().estimatedBandwidth || 0;
  }

  report(kind, error) {
    if (this.ended && kind !== "stop" || kind === "progress" && this.state === "starting") return undefined;
    const bytes = this.bytes - this.reported.bytes;
    this.reported.bytes = this.bytes;
    const body = {
      session_id: this.session, title_id: this.title.id, kind, sequence: ++this.reported.sequence, position_s: this.player ? this.video.currentTime : this.answer.position_s,
      appliance: this.appliance?.name, bytes, rung: this.rung?.id, rebuffer_s: this.rebufferS, error, device: "web",
    };
    let said;
    if (kind === "stop") said = this.api.postLast("/play/report", { ...body, license: this.answer.license });
    else said = this.api.post("/play/report", body);
    return said.catch(() => {}); // the next one says the same, and more
  }

  // finish ends the play's reports; the picture stays.
  finish(state) {
    if (this.ended) return;
    clearInterval(this.timer);
    if (this.answer) this.report("stop");
    this.state = state;
    this.ended = true;
    this.changed(this);
  }

  async close() {
    this.finish("closed");
    this.listeners.abort();
    await this.player?.destroy();
  }
}
