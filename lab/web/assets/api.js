// The public API, as every client of the lab sees it. A call that could not be
// served is tried again for a while: a region that dies takes its connections
// with it, and the next try goes to another.

const patience = 12000; // milliseconds
const firstWait = 100;
const longestWait = 2000;

// Problem is what the API says when it refuses.
export class Problem extends Error {
  constructor(status, body) {
    super([body.error, body.remedy].filter(Boolean).join(". ") || `The lab answered ${status}.`);
    this.status = status;
    this.kind = body.kind;
    this.reason = body.reason;
  }
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

export class API {
  // near is the region that the viewer lives near.
  constructor(near) {
    this.near = near;
    this.token = "";
  }

  url(path) {
    return `/near/${encodeURIComponent(this.near)}${path}`;
  }

  get(path) {
    return this.call("GET", path);
  }

  post(path, body) {
    return this.call("POST", path, body);
  }

  async call(method, path, body) {
    const until = Date.now() + patience;
    for (let wait = firstWait; ; wait = Math.min(2 * wait, longestWait)) {
      let failed;
      try {
        return await this.once(method, path, body);
      } catch (e) {
        failed = e;
      }
      const final = failed instanceof Problem && failed.status < 500;
      if (final || Date.now() + wait > until) throw failed;
      await sleep(wait * (0.5 + Math.random()));
    }
  }

  async once(method, path, body) {
    const headers = { Accept: "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(this.url(path), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    if (answer.status === 204) return undefined;
    const text = await answer.text();
    let value = {};
    try {
      value = JSON.parse(text);
    } catch {
      if (answer.ok) throw new Problem(502, { error: "The answer is not what the API promises" });
    }
    if (!answer.ok) throw new Problem(answer.status, value);
    return value;
  }
}
