// One image, large: the boundary to drag, its classes, its neighbours.

const detail = {index: -1, split: 50};

/** Open the image at `index` of those in the grid. */
function openImage(index) {
  detail.index = index;
  const image = grid.images[index];
  const compare = byId("compare");
  compare.style.setProperty("--ratio", image.width / image.height);
  compare.classList.remove("pointed");
  compare.classList.toggle("tiny", Math.max(image.width, image.height) < 160);
  byId("detail-photo").src = photoOf(image);
  byId("detail-tint").src = tintOf(image);
  byId("detail-photo").alt = image.name;
  byId("detail-name").replaceChildren(make("bdi", "", image.name));
  byId("detail-size").textContent = `${digits.format(image.width)} × ${digits.format(image.height)} pixels, ${counted(image.parts.length, "class", "classes")}`;
  byId("detail-doubt").textContent = `${percent(image.uncertain)} of the pixels are uncertain`;
  byId("detail-doubt").hidden = image.uncertain === null;
  byId("detail-notes").replaceChildren(...image.notes.map((note) => make("li", "", make("bdi", "", note))));
  byId("detail-notes").hidden = image.notes.length === 0;
  byId("detail-place").textContent = `${digits.format(index + 1)} of ${digits.format(grid.images.length)}`;
  byId("previous").disabled = index === 0;
  byId("next").disabled = index === grid.images.length - 1;
  showClasses(image);
  showLinks(image);
  if (!byId("detail").open) {
    byId("detail").showModal();
    byId("detail-name").focus();
  }
  setSplit(detail.split);
  for (const other of [grid.images[index + 1], grid.images[index - 1]]) {
    if (other) for (const address of [photoOf(other), tintOf(other)]) new Image().src = address;
  }
  keepAddress();
}

function showClasses(image) {
  const isMeasured = image.parts.some(({confidence}) => confidence !== null);
  const lines = image.parts.map(({of, share, confidence}) => {
    const sure = confidence === null ? "–" : percent(confidence);
    const button = legendLine(of, share, image.parts[0].share, isMeasured && sure);
    button.title = `${of.name}: show the images with it`;
    button.setAttribute("aria-pressed", of === asked.one);
    const point = () => {
      pickColour("only-detail", of);
      byId("compare").classList.add("pointed");
    };
    const leave = () => byId("compare").classList.remove("pointed");
    button.addEventListener("pointerenter", point);
    button.addEventListener("pointerleave", leave);
    button.addEventListener("focus", () => button.matches(":focus-visible") && point());
    button.addEventListener("blur", leave);
    button.addEventListener("click", () => {
      byId("detail").close();
      choose(of);
    });
    return make("li", "", button);
  });
  const rest = 1 - image.parts.reduce((sum, part) => sum + part.share, 0);
  if (rest > 1e-6) {
    const line = legendLine({name: "unlabelled", colour: "transparent"}, rest, Math.max(rest, image.parts[0]?.share ?? 0), isMeasured && "–");
    line.disabled = true;
    lines.push(make("li", "", line));
  }
  byId("detail-heads").lastElementChild.hidden = !isMeasured;
  byId("detail-classes").replaceChildren(...lines);
  byId("detail-classes").scrollTop = 0;
}

function showLinks(image) {
  const titles = {overlay: "Overlay, full size", labels: "Label map"};
  const links = Object.entries(model.links).map(([kind, suffix]) => {
    const link = make("a", "", titles[kind] ?? kind);
    link.href = image.stem + suffix;
    link.target = "_blank";
    link.rel = "noopener";
    return link;
  });
  byId("detail-links").replaceChildren(...links);
  byId("detail-links").hidden = links.length === 0;
}

/** Put the boundary at so many percent of the width; the overlay is on its right. */
function setSplit(split) {
  detail.split = Math.min(100, Math.max(0, split));
  byId("compare").style.setProperty("--split", `${detail.split}%`);
  byId("handle").setAttribute("aria-valuenow", Math.round(detail.split));
  byId("compare").querySelector(".left").hidden = detail.split < 15;
  byId("compare").querySelector(".right").hidden = detail.split > 85;
}

function step(by) {
  const index = detail.index + by;
  if (index >= 0 && index < grid.images.length) openImage(index);
}

function detailKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const onHandle = document.activeElement === byId("handle");
  const keys = {
    ArrowLeft: () => (onHandle ? setSplit(detail.split - 5) : step(-1)),
    ArrowRight: () => (onHandle ? setSplit(detail.split + 5) : step(1)),
    "[": () => setSplit(detail.split - 5),
    "]": () => setSplit(detail.split + 5),
    o: () => setSplit(detail.split > 0 ? 0 : 100),
    t: switchTheme,
  };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}

function startDetail() {
  const compare = byId("compare");
  const drag = (event) => {
    const box = compare.getBoundingClientRect();
    setSplit((100 * (event.clientX - box.left)) / box.width);
  };
  compare.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    compare.setPointerCapture(event.pointerId);
    drag(event);
  });
  compare.addEventListener("pointermove", (event) => compare.hasPointerCapture(event.pointerId) && drag(event));
  byId("previous").addEventListener("click", () => step(-1));
  byId("next").addEventListener("click", () => step(1));
  byId("detail-close").addEventListener("click", () => byId("detail").close());
  byId("detail").addEventListener("keydown", detailKey);
  byId("detail").addEventListener("close", () => {
    const last = detail.index;
    detail.index = -1;
    focusImage(last);
    keepAddress();
  });
}
