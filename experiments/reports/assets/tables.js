// Tables that sort and filter, buttons that copy, and the place in the contents.
"use strict";

// The first number of a cell, or NaN: "1.2e-3 ± 4e-5", "54 of 60", "1,000", "–".
const first = (text) => {
  const found = /^[^\d]{0,3}?([-−+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?)/i.exec(text.trim());
  return found ? Number(found[1].replaceAll(",", "").replace("−", "-")) : NaN;
};
const letters = new Intl.Collator(undefined, { numeric: true });

for (const box of document.querySelectorAll(".table")) {
  const body = box.querySelector("tbody");
  const heads = [...box.querySelectorAll("thead th")];
  const rows = [...body.rows];
  const input = box.querySelector("input");
  const status = box.querySelector("output");

  const sort = (column, order) => {
    heads.forEach((head, i) => head.hasAttribute("aria-sort") && head.setAttribute("aria-sort", i === column ? order : "none"));
    const texts = new Map(rows.map((row) => [row, row.cells[column].textContent]));
    const filled = rows.filter((row) => /\d|\p{L}/u.test(texts.get(row)));
    const numbers = filled.filter((row) => !Number.isNaN(first(texts.get(row)))).length > filled.length / 2;
    const sign = order === "descending" ? -1 : 1;
    const compare = (a, b) => {
      if (order === "none") return 0;
      if (!numbers) return sign * letters.compare(texts.get(a), texts.get(b));
      const [x, y] = [first(texts.get(a)), first(texts.get(b))];
      // What has no number stands last, whichever way.
      return Number.isNaN(x) - Number.isNaN(y) || (Number.isNaN(x) ? 0 : sign * (x - y));
    };
    body.append(...[...rows].sort(compare));
    box.classList.toggle("sorted", order !== "none");
  };
  heads.forEach((head, column) => {
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    head.querySelector("button")?.addEventListener("click", () => sort(column, next[head.getAttribute("aria-sort")]));
  });

  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    status.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  };
  input?.addEventListener("input", filter);
}

for (const only of document.querySelectorAll("input[data-only]")) {
  const rows = only.closest("section").querySelectorAll("tbody tr:not(.differs)");
  only.addEventListener("change", () => rows.forEach((row) => row.classList.toggle("same", only.checked)));
}

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent;
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Not every browser lets a page from a file write to the clipboard: the text is selected instead.
      getSelection().selectAllChildren(document.getElementById(button.dataset.copy));
      button.textContent = "Selected";
    }
    document.getElementById("said").textContent = button.textContent;
    setTimeout(() => { button.textContent = said; }, 2000);
  });
}

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new Set();
const watch = new IntersectionObserver((changes) => {
  for (const change of changes) change.isIntersecting ? seen.add(change.target.id) : seen.delete(change.target.id);
  const here = [...links.keys()].find((id) => seen.has(id));
  if (here) links.forEach((link, id) => (id === here ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
}, { rootMargin: "0px 0px -60% 0px" });
links.forEach((_, id) => watch.observe(document.getElementById(id)));

// On a phone the contents are closed until they are asked for.
const contents = document.querySelector("nav details");
const narrow = matchMedia("(max-width: 60rem)");
const fold = () => { if (contents) contents.open = !narrow.matches; };
narrow.addEventListener("change", fold);
fold();
