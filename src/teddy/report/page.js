"use strict";

function button(action, ...content) {
  const made = document.createElement("button");
  made.type = "button";
  made.append(...content);
  made.addEventListener("click", action);
  return made;
}

// Empty cells stay last; numbers such as "1,234" or "61.0 ± 1.0" count by their first part.
function compare(a, b, direction) {
  if (!a || !b) return (a ? 0 : 1) - (b ? 0 : 1);
  const [x, y] = [a, b].map((text) => parseFloat(text.replaceAll(",", "")));
  const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  return direction * order;
}

for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const sort = () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const text = (row) => row.cells[column].textContent.trim();
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => compare(text(a), text(b), falling ? -1 : 1));
      table.tBodies[0].append(...rows);
    };
    head.append(button(sort, ...head.childNodes));
  });
}

for (const browser of document.querySelectorAll(".browser")) {
  const [shelf, choice, slider] = [".shelf", "select", "input"].map((name) => browser.querySelector(name));
  const rows = [...browser.querySelectorAll("[data-class]")];

  const showClass = () => {
    rows.forEach((row) => { row.hidden = choice.value !== "" && row.dataset.class !== choice.value; });
    shelf.classList.toggle("one", choice.value !== "");
  };
  const showIteration = () => {
    const steps = slider.dataset.iterations.split(" ").map(Number);
    const step = steps[slider.value] ?? Infinity; // after the last snapshot come the exported images
    const text = step === Infinity ? "exported images" : `iteration ${step.toLocaleString("en")}`;
    browser.querySelector("output").textContent = text;
    slider.setAttribute("aria-valuetext", text);
    for (const cell of browser.querySelectorAll("td")) {
      const taken = [...cell.querySelectorAll("[data-iteration]")];
      if (!taken.length) continue;
      const last = taken.filter((image) => image.dataset.iteration <= step).at(-1) ?? taken[0];
      for (const image of cell.children) {
        image.hidden = step === Infinity ? taken.includes(image) : image !== last;
      }
    }
  };
  const move = (control, by) => {
    if (control === choice) {
      choice.selectedIndex = Math.max(0, Math.min(choice.length - 1, choice.selectedIndex + by));
    } else {
      control.valueAsNumber += by;
    }
    control.dispatchEvent(new Event("input"));
  };

  choice.addEventListener("input", showClass);
  slider?.addEventListener("input", showIteration);
  shelf.addEventListener("keydown", (event) => {
    const [control, by] = { ArrowLeft: [slider, -1], ArrowRight: [slider, 1], ArrowUp: [choice, -1], ArrowDown: [choice, 1] }[event.key] ?? [];
    if (!control || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move(control, by);
  });
  for (const row of rows) {
    const toggle = () => {
      choice.value = choice.value === row.dataset.class ? "" : row.dataset.class;
      showClass();
    };
    row.cells[0].append(button(toggle, ...row.cells[0].childNodes));
  }
  browser.querySelectorAll(".controls, .keys").forEach((one) => { one.hidden = false; });
}

document.addEventListener("keydown", (event) => {
  const choice = document.querySelector(".browser select");
  if (event.key !== "/" || !choice || event.target.matches("input, select")) return;
  event.preventDefault();
  choice.focus();
});

if (navigator.clipboard) {
  const command = document.querySelector("pre.command");
  const text = command.textContent;
  const copy = button(() => navigator.clipboard.writeText(text).then(() => { copy.textContent = "copied"; }), "copy");
  copy.className = "copy";
  command.prepend(copy);
}
