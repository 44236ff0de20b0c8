// Where images of any shape go: rows of full width, each of one height near the one that is asked for.

const NARROWEST = 0.6; // width by height; images beyond these bounds are shown whole inside them
const WIDEST = 2.6;

const shapeOf = (image) => Math.min(WIDEST, Math.max(NARROWEST, image.width / image.height));
const isLong = (image) => shapeOf(image) !== image.width / image.height;

/**
 * Rows of {start, end (indices), top, height (of the pictures)} and the height of all; `below` pixels follow
 * each picture.
 */
function rowsOf(images, width, wanted, gap, below) {
  const rows = [];
  let start = 0;
  let top = 0;
  const add = (end, height) => {
    rows.push({start, end, top, height});
    top += Math.round(height) + below;
    start = end;
  };
  const heightOf = (shapes, count) => (width - gap * (count - 1)) / shapes;
  let shapes = 0;
  for (let i = 0; i < images.length; i++) {
    const shape = shapeOf(images[i]);
    const height = heightOf(shapes + shape, i + 1 - start);
    if (height > wanted) {
      shapes += shape;
      continue;
    }
    // Full with this one, or fuller than without it: whichever is nearer to the wanted height.
    const without = i > start ? heightOf(shapes, i - start) : Infinity;
    if (without / wanted < wanted / height) {
      add(i, without);
      shapes = shape;
    } else {
      add(i + 1, height);
      shapes = 0;
    }
  }
  if (start < images.length) add(images.length, Math.min(wanted, heightOf(shapes, images.length - start)));
  return {rows, height: top};
}

/** The index of the last row that begins at or above `y`. */
function rowAt(rows, y) {
  let low = 0;
  let high = rows.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (rows[middle].top <= y) low = middle;
    else high = middle - 1;
  }
  return low;
}
