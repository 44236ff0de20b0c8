// The page as a whole: tools, keys, the address, and the start.

let reading = false; // the address is being followed, not kept

/** Show what is asked for. */
function refresh() {
  const one = asked.one;
  byId("order").value = asked.order;
  byId("order").querySelector("[value=coverage]").disabled = one === null;
  byId("order").querySelector("[value=uncertain]").disabled = !model.isMeasured;
  byId("reverse").setAttribute("aria-pressed", asked.reversed);
  byId("find-name").value = asked.find;
  byId("chip").hidden = one === null;
  if (one) {
    const swatch = make("span", "swatch");
    swatch.style.setProperty("--colour", one.colour);
    byId("chip").replaceChildren(swatch, nameOf(one.name));
    byId("chip").setAttribute("aria-label", `${one.name}: show all images again`);
    pickColour("only", one);
  }
  showImages(askedImages());
  showCount();
  markChosen();
  keepAddress();
}

function showCount() {
  const shown = grid.images.length;
  const all = model.images.length;
  const of = shown === all ? "" : ` of ${digits.format(all)}`;
  byId("count").replaceChildren(digits.format(shown), make("span", "", `${of} ${all === 1 ? "image" : "images"}`));
  byId("no-image").hidden = shown > 0;
  byId("no-image").textContent = all ? "No image is left: ask for less." : "There is no image.";
}

/** Show the images with one class, or all of them. */
function choose(one) {
  asked.one = one;
  if (one && asked.order === "input") asked.order = "coverage";
  if (!one && asked.order === "coverage") asked.order = "input";
  refresh();
}

function setView(view) {
  document.documentElement.dataset.view = view;
  document.querySelector(`[name=view][value=${view}]`).checked = true;
  keepAddress();
}

function switchTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  keepAddress();
}

/** What is shown as the part of the address after #, so that it can be linked to. */
function keepAddress() {
  if (reading) return;
  const parts = new URLSearchParams();
  const {theme, view} = document.documentElement.dataset;
  if (asked.one) parts.set("class", asked.one.name);
  if (asked.find) parts.set("name", asked.find);
  if (asked.order !== (asked.one ? "coverage" : "input")) parts.set("sort", asked.order);
  if (asked.reversed) parts.set("reversed", "1");
  if (view !== "overlay") parts.set("view", view);
  if (theme) parts.set("theme", theme);
  if (detail.index >= 0) parts.set("image", grid.images[detail.index].id);
  try {
    history.replaceState(null, "", `#${parts}`);
  } catch {
    // Safari allows a hundred a minute. The page works without.
  }
}

function followAddress() {
  const parts = new URLSearchParams(location.hash.slice(1));
  reading = true;
  asked.one = model.classes.find((one) => one.images && one.name === parts.get("class")) ?? null;
  asked.find = parts.get("name") ?? "";
  asked.order = Object.hasOwn(orders, parts.get("sort")) ? parts.get("sort") : asked.one ? "coverage" : "input";
  if (asked.order === "coverage" && !asked.one) asked.order = "input";
  if (asked.order === "uncertain" && !model.isMeasured) asked.order = asked.one ? "coverage" : "input";
  asked.reversed = parts.has("reversed");
  setView(parts.get("view") === "photo" ? "photo" : "overlay");
  if (["dark", "light"].includes(parts.get("theme"))) document.documentElement.dataset.theme = parts.get("theme");
  refresh();
  const index = grid.images.findIndex((image) => image.id === Number(parts.get("image")));
  if (index >= 0) openImage(index);
  else if (byId("detail").open) byId("detail").close();
  reading = false;
}

function showSummary() {
  const found = foundClasses().length;
  const summary = byId("summary");
  summary.replaceChildren(make("b", "", counted(model.images.length, "image", "images")), make("br"));
  summary.append(`${digits.format(found)} of ${counted(model.classes.length, "class", "classes")} found`);
  if (model.failures.length) {
    const jump = make("button", "", `${digits.format(model.failures.length)} failed`);
    jump.type = "button";
    jump.addEventListener("click", () => byId("failures").scrollIntoView());
    summary.append(", ", jump);
  }
  for (const [label, value] of [["san", model.version], ...model.about]) {
    byId("about").append(make("div", "", make("dt", "", label), make("dd", "", value)));
  }
}

function showFailures(most) {
  const rows = model.failures
    .slice(0, most)
    .map(({name, cause}) => make("tr", "", make("td", "", make("bdi", "", name)), make("td", "", make("bdi", "", cause))));
  byId("failure-rows").replaceChildren(...rows);
  byId("failures-title").textContent = `${counted(model.failures.length, "input", "inputs")} failed`;
  byId("failures-more").hidden = model.failures.length <= most;
  byId("failures-more").textContent = `Show all ${digits.format(model.failures.length)}`;
  byId("failures").hidden = model.failures.length === 0;
}

function pageKey(event) {
  const isTyping = event.target.matches("input[type=search], select");
  if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  const keys = {
    o: () => setView(document.documentElement.dataset.view === "photo" ? "overlay" : "photo"),
    t: switchTheme,
    "/": () => byId("find-class").select(),
    n: () => byId("find-name").select(),
    "?": () => byId("help").showModal(),
  };
  if (event.key === "Escape") {
    event.preventDefault();
    byId("find-class").value = "";
    findClasses();
    const isNarrowed = asked.one || asked.find;
    asked.find = "";
    if (isNarrowed) choose(null);
  } else if (!isTyping && Object.hasOwn(keys, event.key)) {
    event.preventDefault();
    keys[event.key]();
  }
}

function startTools() {
  const on = (id, type, does) => byId(id).addEventListener(type, does);
  on("find-name", "input", () => {
    asked.find = byId("find-name").value.trim();
    refresh();
  });
  on("order", "change", () => {
    asked.order = byId("order").value;
    refresh();
  });
  on("reverse", "click", () => {
    asked.reversed = !asked.reversed;
    refresh();
  });
  on("chip", "click", () => choose(null));
  on("size", "input", () => {
    grid.size = Number(byId("size").value);
    layOutAgain();
  });
  on("opacity", "input", () => document.documentElement.style.setProperty("--opacity", byId("opacity").value / 100));
  on("theme", "click", switchTheme);
  on("skip", "click", () => focusImage(grid.active));
  on("help-open", "click", () => byId("help").showModal());
  on("help-close", "click", () => byId("help").close());
  on("failures-more", "click", () => showFailures(Infinity));
  for (const radio of document.getElementsByName("view")) radio.addEventListener("change", () => setView(radio.value));
  document.addEventListener("keydown", pageKey);
  window.addEventListener("hashchange", followAddress);
}

/** Called by data.js. */
function gallery(head, rows) {
  take(head, rows);
  showSummary();
  showLegend();
  showFailures(200);
  startTools();
  startLegend();
  startGrid();
  startDetail();
  followAddress();
}

window.addEventListener("load", () => {
  if (model.version) return;
  byId("no-image").hidden = false;
  byId("no-image").textContent = "html/data.js is missing: this page needs the folder html beside it.";
});
