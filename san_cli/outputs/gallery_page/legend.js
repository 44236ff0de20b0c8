// The legend at the side: every class that was found, to filter by.

function showLegend() {
  const lines = foundClasses().map((one, _, all) => {
    const button = legendLine(one, one.share, all[0].share, digits.format(one.images));
    button.title = `${one.name}: ${percent(one.share)} of all pixels, in ${counted(one.images, "image", "images")}`;
    if (confidenceOf(one) !== null) button.title += `; confidence ${percent(confidenceOf(one))}`;
    button.addEventListener("click", () => choose(asked.one === one ? null : one));
    one.button = button;
    return make("li", "", button);
  });
  byId("legend").replaceChildren(...lines);
  markChosen();
}

function markChosen() {
  for (const one of model.classes) if (one.button) one.button.setAttribute("aria-pressed", one === asked.one);
  if (asked.one) asked.one.button.scrollIntoView({block: "nearest"});
}

/** The buttons that the words in the field leave. */
function matchingButtons() {
  return [...byId("legend").querySelectorAll("li:not([hidden]) button")];
}

function findClasses() {
  const find = byId("find-class").value.trim().toLowerCase();
  for (const one of model.classes) {
    if (one.button) one.button.parentElement.hidden = !one.name.toLowerCase().includes(find);
  }
  byId("no-class").hidden = matchingButtons().length > 0;
}

function legendKey(event) {
  const buttons = matchingButtons();
  const at = buttons.indexOf(document.activeElement);
  const steps = {ArrowDown: at + 1, ArrowUp: at - 1, Home: at < 0 ? NaN : 0, End: at < 0 ? NaN : buttons.length - 1};
  if (event.key === "Enter" && at < 0 && buttons.length) {
    event.preventDefault();
    if (buttons[0].getAttribute("aria-pressed") !== "true") buttons[0].click();
    return;
  }
  const step = steps[event.key];
  if (!Number.isInteger(step)) return;
  event.preventDefault();
  if (step < 0) byId("find-class").focus();
  else if (buttons[step]) buttons[step].focus();
}

function startLegend() {
  byId("find-class").addEventListener("input", findClasses);
  byId("side").addEventListener("keydown", legendKey);
  byId("side-toggle").addEventListener("click", () => {
    const isOpen = byId("side").classList.toggle("open");
    byId("side-toggle").setAttribute("aria-expanded", isOpen);
  });
}
