"use strict";

// What data.js tells, and which of it is asked for.

const model = {version: "", classes: [], about: [], links: {}, images: [], failures: [], isMeasured: false};
const asked = {one: null, find: "", order: "input", reversed: false}; // `one` is a class, or null

function take(head, rows) {
  Object.assign(model, {version: head.version, about: head.about, links: head.links});
  model.classes = head.classes.map(([name, colour]) => ({name, colour, pixels: 0, images: 0, share: 0, sure: 0, measured: 0}));
  let pixels = 0;
  rows.forEach((row, position) => {
    if (row.length === 2) {
      model.failures.push({name: row[0], cause: row[1]});
      return;
    }
    const [name, stem, height, width, found, uncertain, notes = []] = row;
    const image = {id: position + 1, name, stem, height, width, parts: [], uncertain, notes};
    for (let i = 0; i < found.length; i += 3) {
      const [of, area, confidence] = [model.classes[found[i]], found[i + 1], found[i + 2]];
      image.parts.push({of, share: area / (height * width), confidence});
      of.pixels += area;
      of.images += 1;
      if (confidence === null) continue;
      of.sure += area * confidence;
      of.measured += area;
    }
    pixels += height * width;
    model.images.push(image);
    if (uncertain !== null) model.isMeasured = true;
  });
  for (const one of model.classes) one.share = one.pixels / pixels;
}

/** The classes that were found anywhere, the largest first. */
function foundClasses() {
  return model.classes.filter((one) => one.images).sort((a, b) => b.pixels - a.pixels);
}

/** The mean confidence of a class over all its pixels, null where none was kept. */
function confidenceOf(one) {
  return one.measured ? one.sure / one.measured : null;
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
  uncertain: () => (a, b) => (b.uncertain ?? -1) - (a.uncertain ?? -1) || a.id - b.id,
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
