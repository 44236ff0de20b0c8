// Elements of the page. Names come from files: they are only ever set as text.

const byId = (id) => document.getElementById(id);

/** An element with a class name, and children that are elements or text. */
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** A name, kept from turning the direction of what is around it; the whole of it is its tooltip. */
function nameOf(text, shown = text) {
  const name = make("span", "name", make("bdi", "", shown));
  name.title = text;
  return name;
}

const digits = new Intl.NumberFormat("en");
const counted = (number, one, more) => `${digits.format(number)} ${number === 1 ? one : more}`;

/** A share of 1 in percent, with as many places as one wants to read. */
function percent(share) {
  if (share > 0 && share < 0.001) return "<0.1%";
  return `${(100 * share).toFixed(share >= 0.0995 || share === 0 ? 0 : 1)}%`;
}

const photoOf = (image) => `html/${image.stem}.photo.jpg`;
const tintOf = (image) => `html/${image.stem}.classes.png`;

/** The classes of an image side by side, as a background. */
function barOf(image) {
  let end = 0;
  const stops = image.parts.map(({of, share}) => {
    const start = end;
    end += 100 * share;
    return `${of.colour} ${start.toFixed(2)}% ${end.toFixed(2)}%`;
  });
  return stops.length ? `linear-gradient(to right, ${stops.join(", ")}, transparent ${end.toFixed(2)}%)` : "none";
}

/** A line of a legend: a button with the class's colour, name and share, and what else is to be said. */
function legendLine(one, share, longest, aside = "") {
  const shown = make("span", "share", percent(share));
  if (aside) shown.append(make("small", "", aside));
  const button = make("button", "", make("span", "swatch"), nameOf(one.name), shown, make("span", "meter"));
  button.type = "button";
  button.style.setProperty("--colour", one.colour);
  button.style.setProperty("--share", `${(100 * share) / longest}%`);
  return button;
}

/** Let the filter of that id pass one class's colour alone. */
function pickColour(filterId, one) {
  const flood = byId(filterId).querySelector("feFlood");
  flood.setAttribute("flood-color", one.colour);
}
