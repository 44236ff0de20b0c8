// The grid: only the rows in sight, and a little more, are in the document.

const GAP = 14;
const BELOW = 48; // bar, caption and the distance to the next row
const grid = {images: [], rows: [], cards: new Map(), active: 0, width: 0, size: 190, lastTop: NaN, loading: 0};

/** Show `images` from the top. */
function showImages(images) {
  grid.images = images;
  grid.active = 0;
  for (const card of grid.cards.values()) card.remove();
  grid.cards.clear();
  byId("grid").classList.toggle("one-class", asked.one !== null);
  byId("grid").classList.toggle("by-doubt", asked.order === "uncertain");
  layOut();
  const above = byId("grid").getBoundingClientRect().top - toolsHeight();
  if (above < 0) window.scrollBy(0, above - GAP);
  grid.lastTop = NaN;
  paint();
}

/** Place all images anew, for another width or size. */
function layOut() {
  const list = byId("grid");
  grid.width = list.clientWidth;
  const {rows, height} = rowsOf(grid.images, grid.width, grid.size, GAP, BELOW);
  grid.rows = rows;
  list.style.height = `${height}px`;
}

/** Lay out anew, with the image that was at the top still there. */
function layOutAgain() {
  const first = grid.rows.length ? grid.rows[rowAt(grid.rows, sight().top)].start : 0;
  const wasDown = sight().top > 0;
  layOut();
  if (wasDown) scrollToRow(grid.rows.findIndex((row) => row.end > first), true);
  paint();
}

const toolsHeight = () => (getComputedStyle(document.querySelector(".tools")).position === "sticky" ? document.querySelector(".tools").offsetHeight : 0);

/** Top and bottom of what is in sight, in the grid's pixels. */
function sight() {
  const top = -byId("grid").getBoundingClientRect().top;
  return {top: top + toolsHeight(), bottom: top + window.innerHeight};
}

/** Put the cards in sight into the document, and take the others out. */
function paint() {
  const {top, bottom} = sight();
  const more = window.innerHeight * 0.75;
  const wanted = new Set();
  if (grid.rows.length) {
    const last = rowAt(grid.rows, bottom + more);
    for (let r = rowAt(grid.rows, top - more); r <= last; r++) placeRow(grid.rows[r], wanted);
  }
  for (const [index, card] of grid.cards) {
    if (wanted.has(index) || card.contains(document.activeElement)) continue;
    card.remove();
    grid.cards.delete(index);
  }
  if (wanted.size && !grid.cards.has(grid.active)) makeActive(grid.rows[rowAt(grid.rows, top)].start);
  const isFlying = Math.abs(top - grid.lastTop) > window.innerHeight / 2;
  grid.lastTop = top;
  clearTimeout(grid.loading);
  if (isFlying) grid.loading = setTimeout(loadPictures, 120);
  else loadPictures();
}

/** What flies past isn't loaded until it stays. */
function loadPictures() {
  for (const layer of byId("grid").querySelectorAll("img[data-address]")) {
    layer.src = layer.dataset.address;
    layer.removeAttribute("data-address");
  }
}

function placeRow(row, wanted) {
  let left = 0;
  for (let i = row.start; i < row.end; i++) {
    const width = shapeOf(grid.images[i]) * row.height;
    if (!grid.cards.has(i)) {
      grid.cards.set(i, cardOf(i));
      byId("grid").append(grid.cards.get(i));
    }
    const card = grid.cards.get(i);
    card.style.transform = `translate(${Math.round(left)}px, ${row.top}px)`;
    card.style.width = `${Math.round(left + width) - Math.round(left)}px`;
    card.querySelector(".picture").style.height = `${Math.round(row.height)}px`;
    left += width + GAP;
    wanted.add(i);
  }
}

const lastPart = (name) => name.slice(name.lastIndexOf("/") + 1);

/** What the caption tells of an image beside its name. */
function factOf(image) {
  const fact = make("span", "fact");
  if (asked.order !== "uncertain") fact.append(asked.one ? percent(shareOf(image, asked.one)) : counted(image.parts.length, "class", "classes"));
  else if (image.uncertain !== null) fact.append(percent(image.uncertain), make("span", "of", " uncertain"));
  return fact;
}

function cardOf(index) {
  const image = grid.images[index];
  const picture = make("span", isLong(image) ? "picture long" : "picture");
  for (const [className, address] of [["photo", photoOf(image)], ["tint", tintOf(image)]]) {
    const layer = make("img", className);
    layer.alt = "";
    layer.decoding = "async";
    layer.draggable = false;
    layer.dataset.address = address;
    picture.append(layer);
  }
  picture.append(make("span", "cut"));
  const bar = make("span", "bar");
  bar.style.backgroundImage = barOf(image);
  const card = make("a", "card", picture, bar, make("span", "caption", nameOf(image.name, lastPart(image.name)), factOf(image)));
  card.href = `#image=${image.id}`;
  card.draggable = false;
  card.tabIndex = index === grid.active ? 0 : -1;
  card.dataset.index = index;
  const item = make("li", "", card);
  item.setAttribute("aria-posinset", index + 1);
  item.setAttribute("aria-setsize", grid.images.length);
  return item;
}

/** Scroll a row into sight, by as little as possible or to the top. */
function scrollToRow(index, toTop) {
  const row = grid.rows[index];
  if (!row) return;
  const {top, bottom} = sight();
  if (toTop || row.top < top) window.scrollBy(0, row.top - GAP - top);
  else if (row.top + row.height + BELOW > bottom) window.scrollBy(0, row.top + row.height + BELOW - bottom);
}

/** Make an image the only one that Tab leads to. */
function makeActive(index) {
  for (const [at, tabIndex] of [[grid.active, -1], [index, 0]]) {
    const card = grid.cards.get(at);
    if (card) card.firstChild.tabIndex = tabIndex;
  }
  grid.active = index;
}

/** Bring an image into sight and focus it. */
function focusImage(index) {
  if (!grid.images.length) return;
  const within = Math.min(Math.max(index, 0), grid.images.length - 1);
  scrollToRow(grid.rows.findIndex((row) => row.end > within), false);
  paint();
  makeActive(within);
  grid.cards.get(within).firstChild.focus({preventScroll: true});
}

/** The image above or below the active one, whose middle is nearest. */
function neighbourRow(step) {
  const from = grid.rows.findIndex((row) => row.end > grid.active);
  const to = grid.rows[from + step];
  if (!to) return grid.active;
  const middles = (row) => {
    let left = 0;
    return grid.images.slice(row.start, row.end).map((image) => {
      const width = shapeOf(image) * row.height;
      left += width + GAP;
      return left - GAP - width / 2;
    });
  };
  const middle = middles(grid.rows[from])[grid.active - grid.rows[from].start];
  const off = middles(to).map((other) => Math.abs(other - middle));
  return to.start + off.indexOf(Math.min(...off));
}

function gridKey(event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const steps = {
    ArrowLeft: () => grid.active - 1,
    ArrowRight: () => grid.active + 1,
    ArrowUp: () => neighbourRow(-1),
    ArrowDown: () => neighbourRow(1),
    Home: () => 0,
    End: () => grid.images.length - 1,
  };
  if (!Object.hasOwn(steps, event.key)) return;
  event.preventDefault();
  focusImage(steps[event.key]());
}

/** The boundary between photograph and overlay follows the pointer over a picture. */
function startScrubbing() {
  const list = byId("grid");
  let scrubbed = null;
  const stop = () => {
    if (!scrubbed) return;
    scrubbed.classList.remove("scrubbed");
    scrubbed.style.removeProperty("--split");
    scrubbed = null;
  };
  list.addEventListener("pointermove", (event) => {
    const picture = event.target.closest(".picture");
    if (picture !== scrubbed) stop();
    if (!picture) return;
    scrubbed = picture;
    const box = picture.getBoundingClientRect();
    picture.style.setProperty("--split", `${((100 * (event.clientX - box.left)) / box.width).toFixed(1)}%`);
    picture.classList.add("scrubbed");
  });
  for (const end of ["pointerleave", "pointercancel"]) list.addEventListener(end, stop);
}

function startGrid() {
  const list = byId("grid");
  list.addEventListener("keydown", gridKey);
  list.addEventListener("focusin", (event) => {
    const card = event.target.closest(".card");
    if (card) makeActive(Number(card.dataset.index));
  });
  list.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (!card || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    openImage(Number(card.dataset.index));
  });
  let waiting = false;
  window.addEventListener(
    "scroll",
    () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        paint();
      });
    },
    {passive: true},
  );
  new ResizeObserver(() => list.clientWidth !== grid.width && layOutAgain()).observe(list);
  window.addEventListener("resize", paint);
  startScrubbing();
}
