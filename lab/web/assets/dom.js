// Making elements.

export const byId = (id) => document.getElementById(id);

// element makes an element with attributes and children; text is a child, too.
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// drawn makes an element of an SVG picture.
export function drawn(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(e, attributes, children) {
  for (const [k, v] of Object.entries(attributes)) {
    if (v === true) e.setAttribute(k, "");
    else if (v !== false && v !== undefined) e.setAttribute(k, v);
  }
  e.append(...children);
  return e;
}
