// The order of the appliances, as the lab pushes it. A stock player asks for it
// whenever its TTL is over. Here an event stream rings when there is a new one:
// the player's next question is held until then, and its answer says what is in
// use among equals, which the stream does not know. While the stream is broken
// the player asks as the standards have it.

const soon = 0.05; // the TTL that the player is told, in seconds: its question is held here
const trust = 15; // how long a stream that stands is believed without a question, in seconds

export class Orders {
  // using says which pathway is in use, changed is called when something is new.
  constructor(using, changed) {
    Object.assign(this, { using, changed });
    this.asked = { first: 0, told: 0, due: 0 }; // questions, by why they were asked
    this.order = []; // of the latest answer
    this.by = undefined; // why that was asked for
  }

  // pushed says whether the stream stands.
  get pushed() {
    return this.stream?.readyState === EventSource.OPEN;
  }

  // question holds a question of the player's until it is worth asking.
  async question(request) {
    if (this.stream) {
      const why = await this.worth();
      request.uris = request.uris.map((uri) => this.now(uri));
      this.ask(why);
    } else {
      this.listen(request.uris[0]);
      this.ask("first");
    }
  }

  ask(why) {
    this.asked[why]++;
    this.why = why;
    this.news = false;
    this.askedAt = performance.now();
  }

  // now is a question with the pathway that is in use now; it may have been held
  // for long.
  now(uri) {
    const url = new URL(uri);
    for (const name of ["_DASH_pathway", "_HLS_pathway"]) {
      if (url.searchParams.has(name) && this.using()) url.searchParams.set(name, this.using());
    }
    return url.href;
  }

  // answer reads an answer and has the player ask again at once.
  answer(response) {
    const { fromUTF8, toUTF8 } = globalThis.shaka.util.StringUtils;
    const manifest = JSON.parse(fromUTF8(response.data));
    this.ttl = manifest.TTL;
    this.order = manifest["PATHWAY-PRIORITY"];
    this.by = this.why;
    response.data = toUTF8(JSON.stringify({ ...manifest, TTL: soon }));
    this.changed();
  }

  // listen follows the stream beside the address that the player asks.
  listen(question) {
    const url = new URL(question);
    url.pathname = url.pathname.replace(/json$/, "events");
    for (const name of [...url.searchParams.keys()]) {
      if (name.startsWith("_")) url.searchParams.delete(name);
    }
    this.stream = new EventSource(url);
    this.stream.addEventListener("steering", (e) => {
      if (e.data !== this.last) this.news = true; // one that begins anew repeats the order
      this.last = e.data;
      this.look();
    });
    for (const kind of ["open", "error"]) this.stream.addEventListener(kind, () => this.look());
  }

  // worth returns why a question is asked, once it is.
  worth() {
    return new Promise((resolve) => {
      this.release = resolve;
      this.look();
    });
  }

  // look lets the held question go, or sets the time when it does.
  look() {
    this.changed();
    if (!this.release) return;
    clearTimeout(this.timer);
    const ttl = this.ttl ?? 1;
    const left = this.askedAt + 1000 * (this.pushed ? Math.max(ttl, trust) : ttl) - performance.now();
    if (!this.news && left > 0) this.timer = setTimeout(() => this.look(), left);
    else this.let(this.news ? "told" : "due");
  }

  // close ends the stream; a question that is held goes out, for the player waits
  // for its end.
  close() {
    this.stream?.close();
    this.let("due");
  }

  let(why) {
    clearTimeout(this.timer);
    this.release?.(why);
    this.release = undefined;
  }
}
