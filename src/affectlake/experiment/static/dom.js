// Elements with text that is never read as HTML, and a small part of Markdown for consent and instructions.

/** Return an element. `properties` are set as properties (`className`, `disabled`) or, with a hyphen or "role", as attributes. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (key.includes("-") || key === "role" || key === "lang") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((one) => one !== null && one !== undefined));
  return made;
}

/** Return `text` with {fields} filled in. */
export function filled(text, fields = {}) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => (name in fields ? String(fields[name]) : whole));
}

/** Return nodes of a text with headings, lists, paragraphs, **bold**, *emphasis* and [links](https://…). */
export function markdown(text) {
  const nodes = [];
  for (const block of text.trim().split(/\n\s*\n/)) {
    let lines = [];
    let items = null;
    const close = () => {
      if (lines.length) nodes.push(element("p", {}, ...inline(lines.join(" "))));
      if (items) nodes.push(element("ul", {}, ...items.map((one) => element("li", {}, ...inline(one)))));
      lines = [];
      items = null;
    };
    for (const line of block.split("\n")) {
      const heading = /^#+\s+(.*)/.exec(line);
      const item = /^\s*[-*]\s+(.*)/.exec(line);
      if (heading) {
        close();
        nodes.push(element("h2", {}, ...inline(heading[1])));
      } else if (item) {
        if (!items) close();
        items = [...(items ?? []), item[1]];
      } else if (items) items[items.length - 1] += ` ${line.trim()}`;
      else lines.push(line.trim());
    }
    close();
  }
  return nodes;
}

const INLINE = /\*\*(.+?)\*\*|\*(.+?)\*|\[([^\]]+)\]\((https?:\/\/[^)\s]+|mailto:[^)\s]+)\)/;

function inline(text) {
  const found = INLINE.exec(text);
  if (!found) return text ? [text] : [];
  const [whole, bold, emphasis, label, href] = found;
  const made = bold
    ? element("strong", {}, ...inline(bold))
    : emphasis
      ? element("em", {}, ...inline(emphasis))
      : element("a", { href, target: "_blank", rel: "noopener noreferrer" }, label);
  return [text.slice(0, found.index), made, ...inline(text.slice(found.index + whole.length))].filter((one) => one !== "");
}
