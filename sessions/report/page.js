"use strict";
// Charts: the point nearest to the pointer is marked and told; arrow keys walk from point to point.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
const spoken = document.createElement("div");
spoken.className = "hidden";
spoken.setAttribute("role", "status");
document.querySelector("main").append(spoken);

function show(svg, point) {
  let mark = svg.querySelector(".at");
  if (!mark) {
    mark = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    mark.setAttribute("class", "at");
    mark.setAttribute("r", "6");
    svg.append(mark);
  }
  mark.setAttribute("cx", point[0]);
  mark.setAttribute("cy", point[1]);
  tip.replaceChildren(...point[2].map((line) => {
    const row = document.createElement("div");
    row.textContent = line;
    return row;
  }));
  tip.hidden = false;
  const box = svg.getBoundingClientRect();
  const scale = box.width / svg.viewBox.baseVal.width;
  const x = box.left + point[0] * scale;
  const y = box.top + point[1] * scale;
  const left = Math.min(Math.max(x + 14, 4), window.innerWidth - tip.offsetWidth - 4);
  const above = y - tip.offsetHeight - 12;
  tip.style.left = `${left}px`;
  tip.style.top = `${above > 4 ? above : y + 14}px`;
}

function hide(svg) {
  tip.hidden = true;
  svg.querySelector(".at")?.remove();
}

for (const svg of document.querySelectorAll("svg[data-points]")) {
  const points = JSON.parse(svg.dataset.points);
  if (!points.length) continue;
  let at = -1;
  const nearest = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = svg.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    let best = 0;
    let least = Infinity;
    points.forEach((point, place) => {
      const distance = (point[0] - x) ** 2 + ((point[1] - y) / 2) ** 2;
      if (distance < least) [least, best] = [distance, place];
    });
    at = best;
    show(svg, points[at]);
  };
  svg.addEventListener("pointermove", nearest);
  svg.addEventListener("pointerdown", nearest);
  svg.addEventListener("pointerleave", () => hide(svg));
  svg.addEventListener("blur", () => hide(svg));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") hide(svg);
    if (!step) return;
    event.preventDefault();
    at = (at + step + points.length) % points.length;
    show(svg, points[at]);
    spoken.textContent = points[at][2].join(", ");
  });
}
window.addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

// Copying: the text is in the page either way.
for (const button of document.querySelectorAll("button[data-copies]")) {
  const source = document.getElementById(button.dataset.copies);
  const label = button.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Selected: press Ctrl+C";
    }
    spoken.textContent = button.textContent;
    setTimeout(() => { button.textContent = label; }, 2500);
  });
}

// Tables: a click on a heading sorts, the field above filters.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, place) => {
    heading.querySelector("button")?.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => row.cells[place].dataset.value ?? row.cells[place].textContent;
      const order = (one, other) => {
        const [a, b] = [value(one), value(other)];
        if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);
        const numbers = a - b;
        const found = Number.isNaN(numbers) ? a.localeCompare(b, undefined, { numeric: true }) : numbers;
        return down ? -found : found;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
for (const field of document.querySelectorAll("input[data-filters]")) {
  const table = document.getElementById(field.dataset.filters);
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const row of table.tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      left += row.hidden ? 0 : 1;
    }
    spoken.textContent = `${left} rows`;
  });
}
