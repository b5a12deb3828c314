// Who is where: appliances by the address that a segment came from.

// applianceAt finds an appliance by its host among those that the play was
// offered; where a later order named another, its host says its site and number.
export function applianceAt(uri, offered) {
  const { host, hostname } = new URL(uri);
  const known = offered.find((a) => a.plain_url && new URL(a.plain_url).host === host);
  if (known) return known;
  const named = /^oca-(\d+)-(.+)\.localhost$/.exec(hostname);
  return named ? { name: `${named[2]}/oca/${named[1]}`, site: named[2], kind: "" } : undefined;
}

// short is an appliance's name without its region.
export const short = (name) => name.split("/").slice(-3).join("/");
