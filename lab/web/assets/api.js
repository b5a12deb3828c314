// The public API, as every client of the lab sees it. What could not be served
// is tried again behind this page, as client programs of the lab do.

// Problem is what the API says when it refuses.
export class Problem extends Error {
  constructor(status, body) {
    super([body.error, body.remedy].filter(Boolean).join(". ") || `The lab answered ${status}.`);
    this.status = status;
    this.kind = body.kind;
    this.reason = body.reason;
  }
}

export class API {
  // near is the region that the viewer lives near, token the member's or empty.
  constructor(near, token = "") {
    this.near = near;
    this.token = token;
  }

  // asNow stays with who has signed in, and where, also when that changes here.
  asNow() {
    return new API(this.near, this.token);
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

  // postLast is post of what has to arrive although the page is left.
  postLast(path, body) {
    return this.call("POST", path, body, { keepalive: true });
  }

  async call(method, path, body, how = {}) {
    const headers = { Accept: "application/json" };
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const answer = await fetch(this.url(path), { ...how, method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
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
