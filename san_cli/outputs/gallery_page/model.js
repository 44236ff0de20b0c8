"use strict";

// What data.js tells, and which of it is asked for.

const model = {version: "", classes: [], about: [], links: {}, images: [], failures: []};
const asked = {one: null, find: "", order: "input", reversed: false}; // `one` is a class, or null

function take(head, rows) {
  Object.assign(model, {version: head.version, about: head.about, links: head.links});
  model.classes = head.classes.map(([name, colour]) => ({name, colour, pixels: 0, images: 0, share: 0}));
  let pixels = 0;
  rows.forEach((row, position) => {
    if (row.length === 2) {
      model.failures.push({name: row[0], cause: row[1]});
      return;
    }
    const [name, stem, height, width, areas] = row;
    const image = {id: position + 1, name, stem, height, width, parts: []};
    for (let i = 0; i < areas.length; i += 2) {
      const of = model.classes[areas[i]];
      image.parts.push({of, share: areas[i + 1] / (height * width)});
      of.pixels += areas[i + 1];
      of.images += 1;
    }
    pixels += height * width;
    model.images.push(image);
  });
  for (const one of model.classes) one.share = one.pixels / pixels;
}

/** The classes that were found anywhere, the largest first. */
function foundClasses() {
  return model.classes.filter((one) => one.images).sort((a, b) => b.pixels - a.pixels);
}

/** The share of an image's pixels that a class has. */
function shareOf(image, one) {
  const part = image.parts.find((part) => part.of === one);
  return part ? part.share : 0;
}

const names = new Intl.Collator("en", {numeric: true});
const orders = {
  input: () => (a, b) => a.id - b.id,
  name: () => (a, b) => names.compare(a.name, b.name) || a.id - b.id,
  classes: () => (a, b) => b.parts.length - a.parts.length || a.id - b.id,
  coverage: () => {
    const shares = new Map(model.images.map((image) => [image, shareOf(image, asked.one)]));
    return (a, b) => shares.get(b) - shares.get(a) || a.id - b.id;
  },
};

/** The images that are asked for, in the order that is asked for. */
function askedImages() {
  const find = asked.find.toLowerCase();
  const found = model.images.filter(
    (image) =>
      (!asked.one || image.parts.some((part) => part.of === asked.one)) &&
      (!find || image.name.toLowerCase().includes(find)),
  );
  found.sort(orders[asked.order]());
  return asked.reversed ? found.reverse() : found;
}
